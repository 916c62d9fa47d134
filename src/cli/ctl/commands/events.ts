import type { Command } from 'commander';
import { eventPage, type ServiceEvent } from '../client/answers.ts';
import { safeJson } from '../client/bounded-json.ts';
import { followEvents } from '../client/follow.ts';
import { type Grammar, serverCommand, wholeNumber, withServer } from '../command-kit.ts';
import { HintedFault } from '../hinted-fault.ts';
import { oneLine } from '../../print-fault.ts';
import type { Session } from '../session.ts';
import { shortTime } from '../view/times.ts';

interface EventsOptions {
  readonly follow?: true;
  readonly after: number;
  readonly limit: number;
}

export function eventsCommand(grammar: Grammar): Command {
  return serverCommand('events', "print the tenant's events, oldest first")
    .option('-f, --follow', 'go on as they come, until Ctrl-C')
    .option(
      '--after <n>',
      'only events after number n; they count from 1',
      wholeNumber(0, 2 ** 50),
      0,
    )
    .option('--limit <n>', 'at most this many without --follow, 1 to 500', wholeNumber(1, 500), 100)
    .addHelpText(
      'after',
      `
With --json each event is one line: {"seq", "type", "buildId", "at", "data"}.

Examples:
  builderctl events -f --json | jq -r 'select(.type == "build.failed") | .buildId'
`,
    )
    .action(
      withServer<EventsOptions>(grammar, async (session, { follow, after, limit }) => {
        if (follow === true) {
          await printFollowed(session, after);
          return;
        }
        const { client, signal } = session;
        const ask = { doing: 'list the events', query: { after, limit }, signal };
        const { events } = await client.ask('/v1/events', eventPage, ask);
        for (const each of events) await printEvent(session, each);
      }),
    );
}

async function printFollowed(session: Session, after: number): Promise<void> {
  const { client, host, signal } = session;
  let seen = after;
  try {
    const events = followEvents(
      client,
      { after },
      {
        signal,
        nowMs: host.nowMs,
        onCut: ({ message }) =>
          void host.stderr.write(`note: ${oneLine(message)}; going on as soon as it answers\n`),
      },
    );
    for await (const each of events) {
      seen = each.seq;
      await printEvent(session, each);
    }
  } catch (reason) {
    if (!signal.aborted) throw reason;
    throw new HintedFault(
      'build.cancelled',
      'Cannot follow the events any longer: it was interrupted',
      {
        hint: `Go on with \`builderctl events -f --after ${seen}\`.`,
      },
    );
  }
}

/** Waits for the reader: what it does not take is not read from the server either. */
async function printEvent({ host, isJson }: Session, event: ServiceEvent): Promise<void> {
  const { seq, type, buildId, at, data } = event;
  const words = [String(seq), shortTime(at) ?? '', type, buildId ?? '-', safeJson(data)];
  const line = isJson ? safeJson(event) : oneLine(words.join('  '));
  await host.writeBytes(Buffer.from(`${line}\n`));
}
