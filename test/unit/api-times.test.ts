import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { presentTime } from '../../src/api/schemas/field-schemas.ts';

const LAST = 8.64e15;
/** Near to each other, too: what is kept of one time must not show in the next. */
const times = fc
  .tuple(fc.integer({ min: -LAST, max: LAST }), fc.integer({ min: -1e9, max: 1e9 }))
  .map(([ms, more]) => [ms, Math.min(LAST, Math.max(-LAST, ms + more))]);

test('every time is written as RFC 3339 in UTC with milliseconds', () => {
  fc.assert(
    fc.property(times, (all) => {
      for (const ms of all) assert.equal(presentTime(ms), new Date(ms).toISOString());
    }),
    { numRuns: 2000 },
  );
});

test('the last millisecond of a day is not of the next', () => {
  const midnight = Date.UTC(2026, 10, 24);
  assert.equal(presentTime(midnight - 1), '2026-11-23T23:59:59.999Z');
  assert.equal(presentTime(midnight), '2026-11-24T00:00:00.000Z');
});

test('what is no time is a fault', () => {
  for (const ms of [Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => presentTime(ms), RangeError);
  }
});
