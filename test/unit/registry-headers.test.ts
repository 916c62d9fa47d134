import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseChallenges } from '../../src/runtime/registry/challenge.ts';
import { MAX_RETRY_AFTER_MS, parseRetryAfter } from '../../src/runtime/registry/retry-after.ts';

const read = (header: string): unknown =>
  parseChallenges(header).map(({ scheme, params }) => [scheme, Object.fromEntries(params)]);

test('parseChallenges() reads Bearer with commas inside quotes', () => {
  assert.deepEqual(
    read('Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull,push"'),
    [
      [
        'bearer',
        { realm: 'https://auth.example/token', service: 'r', scope: 'repository:a/b:pull,push' },
      ],
    ],
  );
});

test('parseChallenges() reads several challenges of one header', () => {
  assert.deepEqual(read('Basic realm="x", Bearer realm="y", error=invalid_token'), [
    ['basic', { realm: 'x' }],
    ['bearer', { realm: 'y', error: 'invalid_token' }],
  ]);
  assert.deepEqual(read('Negotiate abc==, Basic realm="a\\"b"'), [
    ['negotiate', {}],
    ['basic', { realm: 'a"b' }],
  ]);
});

test('parseChallenges() reads back what is written, and keeps the first of a repeated parameter', () => {
  const name = fc.stringMatching(/^[a-z]{1,8}$/);
  const value = fc.string({ unit: 'grapheme-ascii', maxLength: 20 });
  fc.assert(
    fc.property(fc.dictionary(name, value, { minKeys: 1, maxKeys: 4 }), (params) => {
      const text = Object.entries(params)
        .map(([key, each]) => `${key}="${each.replace(/["\\]/g, '\\$&')}"`)
        .join(', ');
      assert.deepEqual(read(`Bearer ${text}`), [['bearer', { ...params }]]);
    }),
  );
  assert.deepEqual(read('Bearer realm="a", realm="b"'), [['bearer', { realm: 'a' }]]);
});

test('parseChallenges() ends on any text and is bounded', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 300 }), (text) => parseChallenges(text).length <= 8),
  );
  assert.deepEqual(parseChallenges('Basic '.repeat(5000)), []);
  assert.equal(parseChallenges('Basic, '.repeat(1000)).length, 8);
  assert.ok(parseChallenges(`Bearer realm="${'\\'.repeat(8000)}`).length <= 8);
});

test('parseRetryAfter() reads seconds and dates and never waits over a minute', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  assert.equal(parseRetryAfter('3', now), 3000);
  assert.equal(parseRetryAfter('99999999', now), MAX_RETRY_AFTER_MS);
  assert.equal(parseRetryAfter('Thu, 01 Jan 2026 00:00:07 GMT', now), 7000);
  assert.equal(parseRetryAfter('Thu, 01 Jan 2026 09:00:00 GMT', now), MAX_RETRY_AFTER_MS);
  assert.equal(parseRetryAfter('Wed, 31 Dec 2025 00:00:00 GMT', now), 0);
  for (const text of [undefined, '', '-1', '1.5', 'soon', '0x10', 'Infinity']) {
    assert.equal(parseRetryAfter(text, now), undefined, String(text));
  }
});

test('parseRetryAfter() answers nothing or a bounded wait for any text', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^(Mon|Thu), [\w :+-]{0,30}$/)), (text) => {
      const got = parseRetryAfter(text, 0);
      assert.ok(got === undefined || (got >= 0 && got <= MAX_RETRY_AFTER_MS));
    }),
  );
});
