import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'node:test';
import fc from 'fast-check';
import { KeyedMutex } from '../../src/runtime/pull/keyed-mutex.ts';
import { runLimited } from '../../src/runtime/pull/run-limited.ts';

const call = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(10_000) });

test('KeyedMutex runs one holder of a key at a time, in order, and other keys beside it', async () => {
  const mutex = new KeyedMutex();
  const log: string[] = [];
  const hold = (key: string, name: string): Promise<void> =>
    mutex.run(key, call(), async () => {
      log.push(`+${name}`);
      await turn();
      log.push(`-${name}`);
    });
  await Promise.all([hold('a', '1'), hold('a', '2'), hold('b', 'x'), hold('a', '3')]);
  assert.deepEqual(
    log.filter((each) => each !== '+x' && each !== '-x'),
    ['+1', '-1', '+2', '-2', '+3', '-3'],
  );
  assert.ok(log.indexOf('+x') < log.indexOf('-1'));
});

test('KeyedMutex lets the next one in after a failure, and a waiter leave by its signal', async () => {
  const mutex = new KeyedMutex();
  const gate = Promise.withResolvers<void>();
  const control = new AbortController();
  const first = mutex.run('a', call(), () => gate.promise);
  const second = mutex.run('a', control, async () => assert.fail('must not run'));
  const third = mutex.run('a', call(), async () => 'third');
  control.abort();
  await assert.rejects(second, { code: 'build.cancelled' });
  gate.reject(new Error('first failed'));
  await assert.rejects(first, /first failed/);
  assert.equal(await third, 'third');
});

test('KeyedMutex: a waiter that left does not let its follower overtake the holder', async () => {
  const mutex = new KeyedMutex();
  const gate = Promise.withResolvers<void>();
  const control = new AbortController();
  let holding = true;
  const first = mutex.run('a', call(), async () => {
    await gate.promise;
    holding = false;
  });
  const second = mutex.run('a', control, async () => undefined);
  const third = mutex.run('a', call(), async () => assert.equal(holding, false));
  control.abort();
  await assert.rejects(second, { code: 'build.cancelled' });
  await turn();
  gate.resolve();
  await Promise.all([first, third]);
});

const inOrder = (a: number, b: number): number => a - b;

test('runLimited() never runs more than the limit and does every item once', async () => {
  const limits = fc.integer({ min: 1, max: 5 });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat()), limits, async (items, limit) => {
      let running = 0;
      const done: number[] = [];
      await runLimited(items, limit, call(), async (item) => {
        running += 1;
        assert.ok(running <= limit);
        await turn();
        running -= 1;
        done.push(item);
      });
      assert.deepEqual(done.toSorted(inOrder), items.toSorted(inOrder));
    }),
    { numRuns: 30 },
  );
});

test('runLimited() throws the first fault after every started item has ended', async () => {
  const ended: number[] = [];
  const work = runLimited([1, 2, 3, 4, 5, 6], 3, call(), async (item, { signal }) => {
    if (item === 2) throw new Error('two');
    await turn();
    await turn();
    assert.equal(signal.aborted, true);
    ended.push(item);
  });
  await assert.rejects(work, /two/);
  assert.deepEqual(ended, [1, 3]);
});
