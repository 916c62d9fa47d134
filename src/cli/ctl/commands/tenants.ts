import { type Command, Option } from 'commander';
import { BuilderdError } from '../../../core/errors.ts';
import { TIERS } from '../../../core/quotas.ts';
import { type Tenant, tenant, tenantList } from '../client/answers.ts';
import { collect, group, type Grammar, serverCommand, withServer } from '../command-kit.ts';
import { getTenant, patchTenant } from './tenant-calls.ts';
import { parseQuotaPairs } from '../quota-values.ts';
import { changeText, quotaTable } from '../view/quota-text.ts';
import { facts, table } from '../view/table.ts';
import { shortTime } from '../view/times.ts';
import { told } from '../view/told.ts';

interface ChangeOptions {
  readonly tier?: string;
  readonly quota?: readonly string[];
  readonly dryRun?: true;
}

const tierOption = (): Option =>
  new Option('--tier <tier>', 'its tier, which gives the quotas').choices([...TIERS]);
const QUOTA_HELP = 'override a quota, such as maxStorageBytes=20GiB; may be repeated';

export function tenantsGroup(grammar: Grammar): Command {
  return group('tenants', 'make, list and change tenants (for operators)', [
    listCommand(grammar),
    createCommand(grammar),
    getCommand(grammar),
    updateCommand(grammar),
    suspendCommand(grammar, 'suspend', 'take no new builds of a tenant; running ones go on'),
    suspendCommand(grammar, 'resume', 'take builds of a tenant again'),
  ]);
}

function listCommand(grammar: Grammar): Command {
  return serverCommand('list', 'list all tenants').action(
    withServer(grammar, async (session) => {
      const { client, signal } = session;
      const ask = { doing: 'list the tenants', inTenant: false, signal };
      const found = await client.ask('/v1/tenants', tenantList, ask);
      session.show(found, () => {
        const rows = found.tenants.map((each) => [
          each.name,
          each.tier,
          each.suspended ? 'suspended' : 'active',
          Object.keys(each.overrides).length,
          shortTime(each.createdAt),
        ]);
        return table(['TENANT', 'TIER', 'STATE', 'OVERRIDES', 'CREATED'], rows);
      });
    }),
  );
}

function createCommand(grammar: Grammar): Command {
  return serverCommand('create', 'make a tenant')
    .argument('<name>', 'letters, digits, dots, dashes, underscores; at most 63')
    .addOption(tierOption())
    .option('--quota <key=value>', QUOTA_HELP, collect)
    .action(
      withServer<ChangeOptions>(grammar, async (session, { tier, quota = [] }, [name = '']) => {
        const { client, signal } = session;
        const overrides = parseQuotaPairs(quota);
        const made = await client.ask('/v1/tenants', tenant, {
          method: 'POST',
          doing: 'create the tenant',
          inTenant: false,
          body: {
            name,
            ...(tier === undefined ? {} : { tier }),
            ...(quota.length === 0 ? {} : { overrides }),
          },
          signal,
        });
        session.show(made, () => tenantText(made));
      }),
    );
}

function getCommand(grammar: Grammar): Command {
  return serverCommand('get', 'show a tenant and its quotas')
    .argument('<name>', 'name of the tenant')
    .action(
      withServer(grammar, async (session, _options, [name = '']) => {
        const found = await getTenant(session, name);
        session.show(found, () => tenantText(found));
      }),
    );
}

function updateCommand(grammar: Grammar): Command {
  return serverCommand('update', "change a tenant's tier or quotas")
    .argument('<name>', 'name of the tenant')
    .addOption(tierOption())
    .option('--quota <key=value>', `${QUOTA_HELP}; key=default returns to the tier`, collect)
    .option('--dry-run', 'show the effect and change nothing')
    .action(
      withServer<ChangeOptions>(grammar, async (session, options, [name = '']) => {
        const { tier, quota = [], dryRun } = options;
        if (tier === undefined && quota.length === 0) {
          throw new BuilderdError(
            'usage.invalid',
            'Cannot update the tenant: want --tier or --quota',
          );
        }
        const change = {
          ...(tier === undefined ? {} : { tier }),
          ...(quota.length === 0 ? {} : { overrides: parseQuotaPairs(quota) }),
        };
        const before = await getTenant(session, name);
        const after = await patchTenant(session, before, change, { dryRun: dryRun === true });
        session.show({ dryRun: dryRun === true, before, after }, () =>
          changeText(before, after, { dryRun: dryRun === true }),
        );
      }),
    );
}

function suspendCommand(grammar: Grammar, name: 'suspend' | 'resume', about: string): Command {
  return serverCommand(name, about)
    .argument('<name>', 'name of the tenant')
    .action(
      withServer(grammar, async (session, _options, [tenantName = '']) => {
        const before = await getTenant(session, tenantName);
        const change = { suspended: name === 'suspend' };
        const after = await patchTenant(session, before, change, { dryRun: false });
        session.show(
          after,
          () => told`Tenant ${after.name} is ${after.suspended ? 'suspended' : 'active'}\n`,
        );
      }),
    );
}

function tenantText(found: Tenant): string {
  const head = facts([
    ['Tenant', found.name],
    ['Id', found.id],
    ['Tier', found.tier],
    ['State', found.suspended ? 'suspended' : 'active'],
    ['Created', shortTime(found.createdAt)],
  ]);
  return `${head}\n${quotaTable(found.quotas, found.overrides)}`;
}
