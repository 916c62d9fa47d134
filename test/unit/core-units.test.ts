import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDuration, fullMinutes } from '../../src/core/units.ts';

test('formatDuration() says two units at most, and carries what it rounds', () => {
  const cases: readonly (readonly [ms: number, want: string])[] = [
    [0, '0 ms'],
    [999.4, '999 ms'],
    [1000, '1.0 s'],
    [2345, '2.3 s'],
    [60_000, '1 min 0 s'],
    [119_600, '2 min 0 s'],
    [15 * 60_000, '15 min 0 s'],
    [3_599_400, '59 min 59 s'],
    [3_599_600, '1 h 0 min'],
    [5_400_000, '1 h 30 min'],
    [86_400_000, '24 h 0 min'],
  ];
  for (const [ms, want] of cases) assert.equal(formatDuration(ms), want, String(ms));
});

test('fullMinutes() counts no minute that has only begun', () => {
  assert.deepEqual([0, 59_999, 60_000, 119_999].map(fullMinutes), [0, 0, 1, 1]);
});
