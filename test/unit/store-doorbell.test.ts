import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Doorbell } from '../../src/store/doorbell.ts';

test('Doorbell.strike() calls the listeners of its topic once for many strikes', async () => {
  using bell = new Doorbell();
  const heard: string[] = [];
  using queue = bell.listen('queue', () => heard.push('queue'), 60_000);
  using logs = bell.listen('logs', () => heard.push('logs'), 60_000);
  assert.ok(bell.isUsed);
  for (let n = 0; n < 5; n += 1) bell.strike('queue');
  assert.deepEqual(heard, []);
  await turn();
  assert.deepEqual(heard, ['queue']);
  bell.strikeAll();
  await turn();
  assert.deepEqual(heard, ['queue', 'queue', 'logs']);
  logs[Symbol.dispose]();
  queue[Symbol.dispose]();
  assert.ok(!bell.isUsed);
  bell.strikeAll();
  await turn();
  assert.equal(heard.length, 3);
});

test('Doorbell calls a listener that nobody rings after its poll time, again and again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  using bell = new Doorbell();
  let calls = 0;
  using listening = bell.listen('events', () => (calls += 1), 500);
  t.mock.timers.tick(499);
  assert.equal(calls, 0);
  t.mock.timers.tick(1);
  assert.equal(calls, 1);
  t.mock.timers.tick(500);
  assert.equal(calls, 2);
  listening[Symbol.dispose]();
  t.mock.timers.tick(5000);
  assert.equal(calls, 2);
});

test('a listener that is gone before the turn ends is not called', async () => {
  using bell = new Doorbell();
  let calls = 0;
  const listening = bell.listen('control', () => (calls += 1), 60_000);
  bell.strike('control');
  listening[Symbol.dispose]();
  await turn();
  assert.equal(calls, 0);
});
