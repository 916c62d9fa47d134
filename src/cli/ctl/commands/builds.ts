import { type Command, Option } from 'commander';
import { BUILD_STATES } from '../../../core/build-state.ts';
import { formatBytes } from '../../../core/units.ts';
import { build, buildPage, type Build } from '../client/answers.ts';
import type { ApiClient } from '../client/api-client.ts';
import {
  collect,
  group,
  type Grammar,
  oneOrMore,
  serverCommand,
  wholeNumber,
  withServer,
} from '../command-kit.ts';
import { buildFacts, progressOf, sourceOf } from '../view/build-text.ts';
import { table } from '../view/table.ts';
import { shortTime } from '../view/times.ts';
import { told } from '../view/told.ts';

interface ListOptions {
  readonly state?: readonly string[];
  readonly label?: readonly string[];
  readonly limit: number;
  readonly cursor?: string;
}

export function buildsGroup(grammar: Grammar): Command {
  return group('builds', 'list builds, look at one, cancel or delete it', [
    listCommand(grammar),
    getCommand(grammar),
    cancelCommand(grammar),
    deleteCommand(grammar),
  ]);
}

export const buildPath = (id: string): string => `/v1/builds/${encodeURIComponent(id)}`;

/** Asks for a build to stop; repeating it changes nothing. */
export function cancelBuild(
  client: ApiClient,
  id: string,
  { signal }: { readonly signal: AbortSignal },
): Promise<Build> {
  return client.ask(`${buildPath(id)}/cancel`, build, {
    method: 'POST',
    doing: 'cancel the build',
    repeatable: true,
    signal,
  });
}

function listCommand(grammar: Grammar): Command {
  return serverCommand('list', 'list builds, newest first')
    .addOption(
      new Option('--state <state>', 'only this state; may be repeated')
        .choices([...BUILD_STATES])
        .argParser(oneOrMore(BUILD_STATES)),
    )
    .option('--label <key=value>', 'only with this label; may be repeated', collect)
    .option('--limit <n>', 'at most this many, 1 to 500', wholeNumber(1, 500), 50)
    .option('--cursor <text>', 'go on after an earlier page: its nextCursor')
    .addHelpText(
      'after',
      `
Examples:
  builderctl builds list --state failed --label team=core
  builderctl builds list --json | jq -r '.builds[].id'
`,
    )
    .action(
      withServer<ListOptions>(grammar, async (session, { state, label, limit, cursor }) => {
        const { client, signal } = session;
        const query = { state, label, limit, cursor };
        const page = await client.ask('/v1/builds', buildPage, {
          doing: 'list the builds',
          query,
          signal,
        });
        session.show(page, () => {
          const rows = page.builds.map((each) => [
            each.id,
            each.state,
            progressOf(each),
            each.name === '' ? sourceOf(each) : each.name,
            shortTime(each.createdAt),
            sizeOf(each.artifacts),
          ]);
          const more =
            page.nextCursor === undefined
              ? ''
              : told`${page.total} in all; the next page: builderctl builds list --cursor ${page.nextCursor}\n`;
          return rows.length === 0
            ? 'No builds\n'
            : `${table(['BUILD', 'STATE', 'PROGRESS', 'NAME', 'CREATED', 'SIZE'], rows)}${more}`;
        });
      }),
    );
}

function sizeOf(artifacts: readonly { readonly sizeBytes: number }[]): string | undefined {
  if (artifacts.length === 0) return undefined;
  return formatBytes(artifacts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
}

function getCommand(grammar: Grammar): Command {
  return serverCommand('get', 'show a build: state, steps, artifacts, why it waits or failed')
    .argument('<build>', 'its id')
    .action(
      withServer(grammar, async (session, _options, [id = '']) => {
        const { client, signal } = session;
        const found = await client.ask(buildPath(id), build, { doing: 'get the build', signal });
        session.show(found, () => buildFacts(found));
      }),
    );
}

function cancelCommand(grammar: Grammar): Command {
  return serverCommand('cancel', 'stop a build; repeating it changes nothing')
    .argument('<build>', 'its id')
    .action(
      withServer(grammar, async (session, _options, [id = '']) => {
        const cancelled = await cancelBuild(session.client, id, session);
        session.show(cancelled, () =>
          cancelled.cancelRequested && cancelled.finishedAt === undefined
            ? told`Build ${id} is being cancelled\n`
            : told`Build ${id} is ${cancelled.state}\n`,
        );
      }),
    );
}

function deleteCommand(grammar: Grammar): Command {
  return serverCommand('delete', 'delete a build and its artifacts')
    .argument('<build>', 'its id')
    .option('--force', 'also when it runs: it is cancelled first')
    .action(
      withServer<{ readonly force?: true }>(grammar, async (session, { force }, [id = '']) => {
        const { client, signal } = session;
        await client.tell(buildPath(id), {
          method: 'DELETE',
          doing: 'delete the build',
          query: { force },
          signal,
        });
        session.show({ id, deleted: true }, () => told`Build ${id} is deleted\n`);
      }),
    );
}
