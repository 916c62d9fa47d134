import assert from 'node:assert/strict';
import { test } from 'node:test';
import { abortable } from '../../src/core/abortable.ts';

const left = new Error('the client left');

test('abortable() gives what the work gives, or its fault', async () => {
  const { signal } = new AbortController();
  assert.equal(await abortable(Promise.resolve('done'), signal), 'done');
  await assert.rejects(abortable(Promise.reject(new Error('broken')), signal), /broken/);
});

test('abortable() ends with its signal, and work that fails afterwards ends nothing else', async () => {
  const unheard: unknown[] = [];
  const hear = (reason: unknown): void => void unheard.push(reason);
  process.on('unhandledRejection', hear);
  try {
    for (const isEarly of [true, false]) {
      const control = new AbortController();
      const work = Promise.withResolvers<void>();
      if (isEarly) control.abort(left);
      const waiting = abortable(work.promise, control.signal);
      control.abort(left);
      await assert.rejects(waiting, (reason) => reason === left);
      work.reject(new Error('too late'));
      // Rejections that nobody hears are told after the microtasks.
      await new Promise(setImmediate);
    }
    assert.deepEqual(unheard, []);
  } finally {
    process.off('unhandledRejection', hear);
  }
});
