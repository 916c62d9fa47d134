import { setTimeout as after } from 'node:timers/promises';
import { BuilderdError } from '../../../core/errors.ts';
import { type Build, build } from '../client/answers.ts';
import { type ApiClient, passingMs } from '../client/api-client.ts';
import { followLog } from '../client/follow.ts';
import type { Session } from '../session.ts';
import { isOver } from '../view/build-text.ts';
import type { BuildView } from '../view/build-view.ts';
import { buildPath } from './builds.ts';

/** The part of the tenant's requests that watching one build may use up. */
const SHARE_OF_RATE = 1 / 4;
const POLL_MS = { unknown: 2000, least: 500, most: 10_000 };
/** A build whose log has ended is over, or will be in a moment. */
const LAST_LOOKS = 20;

/** Shows a build until it is over: its log as it comes, its state and queue by asking now and then. */
export async function followBuild(session: Session, made: Build, view: BuildView): Promise<Build> {
  const { client, host } = session;
  view.onBuild(made);
  if (isOver(made.state)) return made;
  const stop = new AbortController();
  const signal = AbortSignal.any([host.signal, stop.signal]);
  // A fault of the polling ends the following; the end of the following ends the polling.
  const polling = poll(client, made.id, view, signal).catch((reason: unknown) =>
    stop.abort(reason),
  );
  try {
    const entries = followLog(
      client,
      { id: made.id, from: 0 },
      {
        signal,
        nowMs: host.nowMs,
        onCut: ({ message }) => view.onNote(`${message}; going on as soon as it answers`),
      },
    );
    for await (const entry of entries) view.onLog(entry);
  } finally {
    stop.abort(new BuilderdError('build.cancelled', 'Cannot poll any longer: the log has ended'));
    await polling;
  }
  return lastLook(session, made.id, view);
}

async function poll(
  client: ApiClient,
  id: string,
  view: BuildView,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    try {
      await after(pollMs(client.requestsPerMinute), undefined, { signal });
      const seen = await client.ask(buildPath(id), build, { doing: 'get the build', signal });
      view.onBuild(seen);
      if (isOver(seen.state)) return;
    } catch (reason) {
      if (signal.aborted) return;
      // The log's stream tells that the server is away, and waits for it.
      if (passingMs(reason) === undefined) throw reason;
    }
  }
}

function pollMs(requestsPerMinute: number | undefined): number {
  if (requestsPerMinute === undefined || requestsPerMinute === 0) return POLL_MS.unknown;
  const fair = 60_000 / (requestsPerMinute * SHARE_OF_RATE);
  return Math.min(POLL_MS.most, Math.max(POLL_MS.least, fair));
}

async function lastLook({ client, signal }: Session, id: string, view: BuildView): Promise<Build> {
  for (let nth = 0; nth < LAST_LOOKS; nth += 1) {
    const seen = await client.ask(buildPath(id), build, { doing: 'get the build', signal });
    view.onBuild(seen);
    if (isOver(seen.state)) return seen;
    await client.pause(Math.min(nth, 2), signal);
  }
  throw new BuilderdError(
    'server.invalid',
    `Cannot tell how build ${id} ended: its log is over and it is not`,
  );
}
