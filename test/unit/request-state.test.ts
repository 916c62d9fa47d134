import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import type { FastifyReply } from 'fastify';
import { RequestState } from '../../src/api/auth/request-state.ts';
import { BuilderdError, isBuilderdError } from '../../src/core/errors.ts';

function newState(closing: AbortSignal): {
  readonly state: RequestState;
  readonly raw: EventEmitter;
} {
  const raw = Object.assign(new EventEmitter(), { writableEnded: false, writableFinished: false });
  // The state looks at nothing else of an answer.
  const reply = { raw } as unknown as FastifyReply;
  const options = { reply, closing, callMs: 60_000, nowMs: () => 0, onClose: () => undefined };
  return { state: new RequestState(options), raw };
}

test('a stream that begins after its client left has ended already, and waits for nothing', () => {
  const closing = new AbortController();
  const { state, raw } = newState(closing.signal);
  raw.emit('close');
  const signal = state.streamSignal();
  assert.ok(signal.aborted);
  assert.ok(isBuilderdError(signal.reason, 'build.cancelled'));
  assert.equal(state.streamSignal(), signal);
});

test('calls end with a stream that was reset before its answer ended, and not after a whole one', () => {
  for (const [writableEnded, aborted] of [
    [false, true],
    [true, false],
  ] as const) {
    const { state, raw } = newState(new AbortController().signal);
    const { signal } = state.call();
    Object.assign(raw, { writableEnded, writableFinished: true });
    raw.emit('close');
    assert.equal(signal.aborted, aborted);
  }
});

test('a stream ends with its client, with the service, and with its caller', () => {
  const closing = new AbortController();
  const [left, closed, refused] = [1, 2, 3].map(() => newState(closing.signal));
  const signals = [left, closed, refused].map((each) => each?.state.streamSignal());
  left?.raw.emit('close');
  assert.deepEqual(
    signals.map((signal) => signal?.aborted),
    [true, false, false],
  );
  const reason = new BuilderdError('api.forbidden', 'Cannot follow');
  refused?.state.endStream(reason);
  assert.equal(signals[2]?.reason, reason);
  closing.abort(new Error('the service closes'));
  assert.ok(signals[1]?.aborted);
});
