import type { Command } from 'commander';
import { logPage, type LogEntry } from '../client/answers.ts';
import { safeJson } from '../client/bounded-json.ts';
import { followLog } from '../client/follow.ts';
import { type Grammar, serverCommand, wholeNumber, withServer } from '../command-kit.ts';
import { HintedFault } from '../hinted-fault.ts';
import type { Session } from '../session.ts';
import { logText } from '../view/log-text.ts';
import { buildPath } from './builds.ts';
import { followHint } from './follow-hint.ts';
import { told } from '../view/told.ts';

interface LogsOptions {
  readonly follow?: true;
  readonly from: number;
}

export function logsCommand(grammar: Grammar): Command {
  return serverCommand('logs', 'print the log of a build')
    .argument('<build>', 'its id')
    .option('-f, --follow', 'go on until the build ends, also across restarts of the server')
    .option('--from <n>', 'start at entry n; they count from 0', wholeNumber(0, 2 ** 50), 0)
    .addHelpText(
      'after',
      `
With --json each entry is one line: {"n", "time", "level", "component", "message"}. What a build prints
cannot move your cursor: control characters are shown as \\xNN. Exit code 1: the followed build failed.

Examples:
  builderctl logs -f 0198c0de-…
  builderctl logs --json --from 200 0198c0de-… | jq -r .message
`,
    )
    .action(
      withServer<LogsOptions>(grammar, async (session, { follow, from }, [id = '']) => {
        if (follow === true) {
          const state = await printFollowed(session, id, from);
          if (state === 'failed' || state === 'cancelled') grammar.outcome.exitCode = 1;
          return;
        }
        await printPages(session, id, from);
      }),
    );
}

async function printPages(session: Session, id: string, from: number): Promise<void> {
  const { client, signal } = session;
  let next = from;
  for (;;) {
    const page = await client.ask(`${buildPath(id)}/logs`, logPage, {
      doing: 'read the log',
      query: { from: next },
      signal,
    });
    await printEntries(session, page.entries);
    // A page that does not lead on would be asked for again and again.
    if (page.ended || page.entries.length === 0 || page.next <= next) return;
    next = page.next;
  }
}

async function printFollowed(
  session: Session,
  id: string,
  from: number,
): Promise<string | undefined> {
  const { client, host, signal } = session;
  let next = from;
  const entries = followLog(
    client,
    { id, from },
    {
      signal,
      nowMs: host.nowMs,
      onCut: ({ message }) =>
        host.stderr.write(told`note: ${message}; going on as soon as it answers\n`),
    },
  );
  try {
    for (;;) {
      const { done, value } = await entries.next();
      if (done === true) return value;
      await printEntries(session, [value]);
      next = value.n + 1;
    }
  } catch (reason) {
    if (!signal.aborted) throw reason;
    const message = `Cannot follow build ${id} any longer: it was interrupted here and goes on there`;
    throw new HintedFault('build.cancelled', message, { hint: followHint(id, next) });
  }
}

/** Waits for the reader: what it does not take is not read from the server either. */
async function printEntries(
  { host, isJson }: Session,
  entries: readonly LogEntry[],
): Promise<void> {
  const lines = entries.map((entry) => (isJson ? `${safeJson(entry)}\n` : logText(entry)));
  await host.writeBytes(Buffer.from(lines.join('')));
}
