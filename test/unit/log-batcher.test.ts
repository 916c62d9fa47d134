import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LogBatcher } from '../../src/builds/logs/log-batcher.ts';
import { type NewLogEntry, parseSegment } from '../../src/builds/logs/log-lines.ts';
import { LOG_LIMITS, type LogLimits } from '../../src/builds/logs/log-limits.ts';
import { clipText, readableText } from '../../src/builds/logs/readable-text.ts';
import type { LogEntry } from '../../src/builds/service/views.ts';

const say = (message: string): NewLogEntry => ({
  time: 1,
  level: 'info',
  component: 'builder',
  message,
});

function batcherWith(limits: Partial<LogLimits> = {}, mask: readonly string[] = []) {
  const clock = { ms: 0 };
  const batcher = new LogBatcher({
    limits: { ...LOG_LIMITS, ...limits },
    mask,
    nowMs: () => 1,
    monotonicMs: () => clock.ms,
  });
  return { batcher, clock };
}

/** All that waits, as batches of about `maxBytes`. */
function drain(batcher: LogBatcher, maxBytes = 1000, roomBytes = Number.MAX_SAFE_INTEGER) {
  const entries: LogEntry[] = [];
  let droppedBytes = 0;
  let room = roomBytes;
  while (!batcher.isEmpty) {
    batcher.closeGap();
    const batch = batcher.take(maxBytes, room);
    if (batch === undefined) break;
    const parsed = parseSegment(batch.data, entries.length, 0);
    assert.equal(parsed.length, batch.entries);
    entries.push(...parsed);
    droppedBytes += batch.droppedBytes;
    room -= batch.data.length;
  }
  return { entries, droppedBytes };
}

test('LogBatcher keeps every line, in order, whatever the sizes of batches', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: 'grapheme', maxLength: 80 }), { maxLength: 40 }),
      fc.integer({ min: 1, max: 2000 }),
      (messages, maxBytes) => {
        const { batcher } = batcherWith();
        for (const message of messages) batcher.add(say(message));
        const { entries, droppedBytes } = drain(batcher, maxBytes);
        assert.deepEqual(
          entries.map(({ n }) => n),
          entries.keys().toArray(),
        );
        assert.deepEqual(
          entries.map(({ message }) => message),
          messages.map(readableText),
        );
        assert.equal(droppedBytes, 0);
        assert.equal(batcher.queuedBytes, 0);
      },
    ),
  );
});

test('LogBatcher makes one entry of each line', () => {
  for (const [message, want] of [
    ['one', ['one']],
    ['one\ntwo', ['one', 'two']],
    ['one\r\ntwo\n', ['one', 'two']],
    ['10%\r20%\r30%', ['10%', '20%', '30%']],
    ['one\n\ntwo', ['one', '', 'two']],
    ['', ['']],
    ['\n', ['']],
  ] as const) {
    const { batcher } = batcherWith();
    batcher.add(say(message));
    assert.deepEqual(
      drain(batcher).entries.map((entry) => entry.message),
      want,
    );
  }
});

test('LogBatcher cuts a long line and says how much', () => {
  const { batcher } = batcherWith({ lineBytes: 100 });
  batcher.add(say('ä'.repeat(100)));
  batcher.add(say('\u001b'.repeat(100)));
  const { entries, droppedBytes } = drain(batcher);
  assert.equal(entries[0]?.message, `${'ä'.repeat(50)} [100 bytes of this line were dropped]`);
  assert.equal(entries[1]?.message, `${'\\x1b'.repeat(25)} [300 bytes of this line were dropped]`);
  assert.equal(droppedBytes, 400);
});

test('LogBatcher drops what comes faster than the rate, and puts a marker with the bytes in its place', () => {
  const { batcher, clock } = batcherWith({ bytesPerSecond: 1000 });
  for (let n = 0; n < 100; n += 1) batcher.add(say(`before ${n}`));
  clock.ms += 10_000;
  batcher.add(say('after'));
  const { entries, droppedBytes } = drain(batcher);
  const marker = entries.findIndex(({ metadata }) => metadata?.['reason'] === 'rate');
  assert.ok(marker > 5 && marker < 30, `marker at ${marker}`);
  assert.equal(marker, entries.length - 2);
  assert.equal(entries.at(-1)?.message, 'after');
  const kept = entries.slice(0, marker).map(({ message }) => message);
  assert.deepEqual(
    kept,
    Array.from({ length: marker }, (_, n) => `before ${n}`),
  );
  const lost = Array.from({ length: 100 - marker }, (_, n) => `before ${n + marker}\n`).join('');
  assert.equal(entries[marker]?.metadata?.['droppedBytes'], String(lost.length));
  assert.equal(droppedBytes, lost.length);
});

test('LogBatcher in a flood gives few markers, not one for each line', () => {
  const { batcher, clock } = batcherWith({ bytesPerSecond: 10_000 });
  for (let n = 0; n < 20_000; n += 1) {
    clock.ms += 0.1;
    batcher.add(say('the same line again'));
  }
  const { entries } = drain(batcher, 1e6);
  const markers = entries.filter(({ metadata }) => metadata?.['reason'] === 'rate').length;
  assert.ok(markers >= 1 && markers <= 12, `${markers} markers in two seconds`);
});

test('LogBatcher never holds more than its queue while nothing is taken', () => {
  const { batcher, clock } = batcherWith({ queueBytes: 10_000 });
  for (let n = 0; n < 1000; n += 1) {
    clock.ms += 1000;
    batcher.add(say('x'.repeat(100)));
  }
  assert.ok(batcher.queuedBytes < 11_000, `${batcher.queuedBytes} bytes`);
  const { entries } = drain(batcher);
  assert.equal(entries.at(-1)?.metadata?.['reason'], 'backlog');
});

test('LogBatcher stops at the size of a build log, and tells the sum at the end', () => {
  const { batcher } = batcherWith({ buildBytes: 1000 });
  for (let n = 0; n < 50; n += 1) batcher.add(say(`line ${n}`));
  const first = drain(batcher, 1e6, 1000);
  assert.ok(first.entries.length > 5 && first.entries.length < 20);
  assert.equal(first.entries.at(-1)?.metadata?.['limitBytes'], '1000');
  for (let n = 0; n < 50; n += 1) batcher.add(say('more'));
  assert.equal(batcher.isEmpty, true);
  batcher.finish();
  const last = drain(batcher);
  assert.equal(last.entries.length, 1);
  assert.equal(last.entries[0]?.metadata?.['reason'], 'size');
  assert.equal(
    Number(last.entries[0]?.metadata?.['droppedBytes']),
    first.droppedBytes + last.droppedBytes,
  );
});

test('LogBatcher masks messages and metadata, also of lines that it cuts', () => {
  const { batcher } = batcherWith({ lineBytes: 50 }, ['canary-secret']);
  batcher.add({ ...say('token canary-secret'), metadata: { header: 'x canary-secret' } });
  batcher.add(say(`${'x'.repeat(45)}canary-secret`));
  batcher.add(say('next line'));
  const text = JSON.stringify(drain(batcher).entries);
  assert.ok(!text.includes('canary') && !text.includes('secret'), text);
});

test('readableText() leaves nothing that a terminal obeys', () => {
  fc.assert(
    fc.property(fc.uint16Array({ maxLength: 100 }), (units) => {
      const text = String.fromCharCode(...units);
      const shown = readableText(text);
      assert.doesNotMatch(
        shown,
        /(?!\t)[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\p{Cs}]/u,
      );
    }),
  );
  assert.equal(
    readableText('a\u001b[31mb\u0007\tc\u009b2J\u202e'),
    'a\\x1b[31mb\\x07\tc\\x9b2J\\u202e',
  );
});

test('clipText() cuts between characters and counts every byte', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme', maxLength: 50 }),
      fc.integer({ min: 0, max: 60 }),
      (text, max) => {
        const clipped = clipText(text, max);
        assert.ok(Buffer.byteLength(clipped.text) <= max);
        assert.ok(text.startsWith(clipped.text));
        assert.equal(Buffer.byteLength(clipped.text) + clipped.cutBytes, Buffer.byteLength(text));
      },
    ),
  );
});
