import type { Command } from 'commander';
import { quotas } from '../client/answers.ts';
import { group, type Grammar, serverCommand, withServer } from '../command-kit.ts';
import { changeText, quotaTable } from '../view/quota-text.ts';
import { table } from '../view/table.ts';
import { quotaText } from '../view/quota-text.ts';
import { parseQuotaPairs, QUOTA_KINDS } from '../quota-values.ts';
import { getTenant, patchTenant } from './tenant-calls.ts';

export function quotaGroup(grammar: Grammar): Command {
  return group('quota', 'show and set what a tenant may use', [
    getCommand(grammar),
    setCommand(grammar),
  ]);
}

function getCommand(grammar: Grammar): Command {
  return serverCommand('get', 'show the quotas of a tenant')
    .argument('[tenant]', 'its name (default: your own)')
    .action(
      withServer(grammar, async (session, _options, [name]) => {
        if (name === undefined) {
          const { client, signal } = session;
          const found = await client.ask('/v1/quotas', quotas, { doing: 'get the quotas', signal });
          session.show({ quotas: found }, () =>
            table(
              ['QUOTA', 'VALUE'],
              Object.entries(found).map(([key, value]) => [key, quotaText(key, value)]),
            ),
          );
          return;
        }
        const { name: tenant, tier, quotas: found, overrides } = await getTenant(session, name);
        session.show({ tenant, tier, quotas: found, overrides }, () =>
          quotaTable(found, overrides),
        );
      }),
    );
}

function setCommand(grammar: Grammar): Command {
  return serverCommand('set', 'override quotas of a tenant; running builds are told too')
    .argument('<tenant>', 'its name')
    .argument('<key=value...>', 'what to change; key=default returns to the value of the tier')
    .option('--dry-run', 'check it on the server, show the effect and change nothing')
    .addHelpText(
      'after',
      `
Quotas: ${Object.keys(QUOTA_KINDS).join(', ')}.
Sizes such as 512M or 4GiB, durations such as 30m, lists separated by commas.

Examples:
  builderctl quota set acme maxStorageBytes=20GiB maxBuildMinutes=30m --dry-run
  builderctl quota set acme allowedRegistries=docker.io,ghcr.io maxCpuCores=default
`,
    )
    .action(
      withServer<{ readonly dryRun?: true }>(
        grammar,
        async (session, options, [name = '', ...pairs]) => {
          const dryRun = options.dryRun === true;
          const overrides = parseQuotaPairs(pairs);
          const before = await getTenant(session, name);
          const after = await patchTenant(session, before, { overrides }, { dryRun });
          session.show({ dryRun, before, after }, () => changeText(before, after, { dryRun }));
        },
      ),
    );
}
