import type { Readable } from 'node:stream';
import type { BuildService } from '../../builds/service/build-service.ts';
import type { TenantRef } from '../../builds/service/caller.ts';
import type { LogEntry } from '../../builds/service/views.ts';
import type { BuildId } from '../../core/ids.ts';
import type { ApiLimits } from '../api-limits.ts';
import { endFrame } from './end-frame.ts';
import { eventFrame, HEARTBEAT, RETRY_FRAME } from './event-frame.ts';
import { jsonLine, plainLine, presentLogEntry } from './log-lines.ts';
import { pacedStream, withHeartbeats } from './paced-stream.ts';

export const LOG_FORMS = ['text/plain', 'application/x-ndjson', 'text/event-stream'] as const;
export type LogForm = (typeof LOG_FORMS)[number];

/** Entries that are asked for at once. */
const PAGE = 500;
/** How long a refusal of the follower may take to be told as a status instead of within the stream. */
const REFUSAL_MS = 50;

export interface LogRequest {
  readonly tenant: TenantRef;
  readonly id: BuildId;
  readonly from: number;
  readonly follow: boolean;
  readonly form: LogForm;
  readonly requestId: string;
  readonly signal: AbortSignal;
}

/**
 * The log as a body in one of its forms. Faults that show at once (no such build, too many
 * followers) are thrown; later ones cut the body, and the reader comes back with the number of the
 * last entry. An event stream ends with an `end` event that holds the build's state, or with a
 * `fault` when its caller may no longer have it.
 */
export async function openLogBody(
  builds: BuildService,
  request: LogRequest,
  {
    limits,
    onEnd,
    onFault,
  }: {
    readonly limits: ApiLimits;
    readonly onEnd: () => void;
    readonly onFault: (reason: unknown) => void;
  },
): Promise<Readable> {
  const control = new AbortController();
  const signal = AbortSignal.any([request.signal, control.signal]);
  const source = request.follow
    ? builds.followLog(request.tenant, request.id, { from: request.from, signal })
    : readAll(builds, request, signal);
  const iterator = source[Symbol.asyncIterator]();
  const first = iterator.next();
  try {
    await Promise.race([first, settleAfter(REFUSAL_MS)]);
  } catch (reason) {
    control.abort(reason);
    throw reason;
  }
  const form = request.form;
  const writing = {
    first,
    heartbeatMs: limits.heartbeatMs,
    heartbeat: form === 'text/event-stream' ? HEARTBEAT : '',
    write: (entry: LogEntry) => write(form, entry),
  };
  async function* events(): AsyncGenerator<string, void, void> {
    yield RETRY_FRAME;
    try {
      yield* withHeartbeats(iterator, writing);
      signal.throwIfAborted();
      const { state } = await builds.get(request.tenant, request.id, { signal });
      yield eventFrame('end', { state });
    } catch (reason) {
      if (!signal.aborted) throw reason;
      const last = endFrame(signal.reason, request.requestId);
      // The service closes. Without an `end` event the reader comes back, here or elsewhere.
      if (last !== undefined) yield last;
    }
  }
  async function* lines(): AsyncGenerator<string, void, void> {
    yield* withHeartbeats(iterator, writing);
    // These forms have no word for it: they are cut rather than looking whole.
    signal.throwIfAborted();
  }
  const pieces = form === 'text/event-stream' ? events() : lines();
  return pacedStream(pieces, {
    stalledMs: limits.stalledMs,
    abort: (reason) => control.abort(reason),
    onEnd,
    onFault,
  });
}

async function* readAll(
  builds: BuildService,
  { tenant, id, from }: LogRequest,
  signal: AbortSignal,
): AsyncGenerator<readonly LogEntry[], void, void> {
  let next = from;
  for (;;) {
    const { entries } = await builds.readLog(tenant, id, { from: next, limit: PAGE, signal });
    const last = entries.at(-1);
    if (last === undefined) return;
    yield entries;
    if (entries.length < PAGE) return;
    next = last.n + 1;
  }
}

function write(form: LogForm, entry: LogEntry): string {
  if (form === 'text/plain') return plainLine(entry);
  if (form === 'application/x-ndjson') return jsonLine(entry);
  return eventFrame('log', presentLogEntry(entry), entry.n);
}

function settleAfter(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
