import { Command } from 'commander';
import { BuilderdError } from '../../../core/errors.ts';
import { oneLine } from '../../print-fault.ts';
import { safeJson } from '../client/bounded-json.ts';
import { group, type Grammar } from '../command-kit.ts';
import { type Contexts, readContexts, writeContexts } from '../contexts/contexts-file.ts';
import type { CtlHost } from '../ctl-host.ts';
import { table } from '../view/table.ts';

interface JsonOption {
  readonly json?: true;
}

export function contextGroup({ host }: Grammar): Command {
  return group('context', 'the servers that you are logged in to', [
    localCommand('list', 'list them; the one in use is marked').action(
      async ({ json }: JsonOption) => listContexts(await readContexts(host), json === true, host),
    ),
    localCommand('use', 'use another from now on')
      .argument('<name>', 'name of the context')
      .action(async (name: string, { json }: JsonOption) => {
        const { contexts } = await readContexts(host);
        requireContext(contexts, name);
        await writeContexts(host, { current: name, contexts });
        say(host, json, { current: name }, `Context ${name} is used from now on`);
      }),
    localCommand('remove', 'forget one and its token')
      .argument('<name>', 'name of the context')
      .action(async (name: string, { json }: JsonOption) => {
        await removeContext(host, name);
        say(host, json, { removed: name }, `Context ${name} is forgotten`);
      }),
  ]);
}

export function logoutCommand({ host }: Grammar): Command {
  return localCommand('logout', 'forget the context in use and its token')
    .addHelpText('after', '\nThe token still works: `builderctl token revoke` ends it.\n')
    .action(async ({ json }: JsonOption) => {
      const { current } = await readContexts(host);
      if (current === undefined) {
        throw new BuilderdError('usage.invalid', 'Cannot log out: no context is in use');
      }
      await removeContext(host, current);
      say(host, json, { removed: current }, `Logged out: context ${current} is forgotten`);
    });
}

function localCommand(name: string, about: string): Command {
  return new Command(name).description(about).option('--json', 'print JSON, errors too');
}

async function removeContext(host: CtlHost, name: string): Promise<void> {
  const { current, contexts } = await readContexts(host);
  requireContext(contexts, name);
  const rest = new Map([...contexts].filter(([key]) => key !== name));
  await writeContexts(host, { current: current === name ? undefined : current, contexts: rest });
}

function requireContext(contexts: Contexts['contexts'], name: string): void {
  if (contexts.has(name)) return;
  throw new BuilderdError(
    'usage.invalid',
    `Cannot find context ${JSON.stringify(name.slice(0, 80))}: builderctl context list shows those there are`,
  );
}

/** Without the tokens. */
function listContexts({ current, contexts }: Contexts, json: boolean, host: CtlHost): void {
  const all = [...contexts].map(([name, { server, tenant }]) => ({
    name,
    server,
    tenant,
    current: name === current,
  }));
  const rows = all.map((each) => [each.current ? '*' : ' ', each.name, each.server, each.tenant]);
  host.stdout.write(
    json ? `${safeJson({ contexts: all })}\n` : table(['', 'CONTEXT', 'SERVER', 'TENANT'], rows),
  );
}

function say(host: CtlHost, json: true | undefined, document: object, text: string): void {
  host.stdout.write(`${json === true ? safeJson(document) : oneLine(text)}\n`);
}
