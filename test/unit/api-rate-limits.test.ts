import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_API_LIMITS } from '../../src/api/api-limits.ts';
import { AddressLimits, networkOf } from '../../src/api/auth/address-limits.ts';
import { TokenBuckets } from '../../src/api/auth/token-bucket.ts';
import { TokenCache } from '../../src/api/auth/token-cache.ts';

const IDENTITY = { actor: 'token:1', role: 'tenant', tenants: new Set<never>() } as const;

test('TokenBuckets let a burst through, then the rate, and say when to come back', () => {
  let now = 0;
  const buckets = new TokenBuckets({ maxKeys: 10, nowMs: () => now });
  const size = { perMinute: 60, burst: 3 };
  const taken = Array.from({ length: 4 }, () => buckets.take('a', size));
  assert.deepEqual(
    taken.map((each) => [each.taken, each.remaining]),
    [
      [true, 2],
      [true, 1],
      [true, 0],
      [false, 0],
    ],
  );
  assert.equal(taken[3]?.retrySeconds, 1);
  assert.equal(taken[3]?.resetSeconds, 3);
  assert.equal(buckets.take('b', size).taken, true);
  now += 1000;
  assert.equal(buckets.take('a', size).taken, true);
  assert.equal(buckets.take('a', size).taken, false);
  now += 3_600_000;
  assert.equal(buckets.look('a', size).remaining, 3);
});

test('TokenBuckets forget the least lately used key', () => {
  const buckets = new TokenBuckets({ maxKeys: 2, nowMs: () => 0 });
  const size = { perMinute: 1, burst: 1 };
  for (const key of ['a', 'b', 'a', 'c']) buckets.take(key, size);
  assert.equal(buckets.take('a', size).taken, false);
  assert.equal(buckets.take('b', size).taken, true);
});

test('networkOf() counts an IPv6 customer as one', () => {
  const table: [address: string, want: string][] = [
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:0DB8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ];
  for (const [address, want] of table) assert.equal(networkOf(address), want, address);
});

test('AddressLimits refuse an address that guesses, and no other', () => {
  const limits = new AddressLimits(
    { ...DEFAULT_API_LIMITS, failureBurst: 2, failuresPerMinute: 1 },
    () => 0,
  );
  limits.checkGuesses('192.0.2.1');
  limits.countGuess('192.0.2.1');
  limits.countGuess('192.0.2.1');
  assert.throws(() => limits.checkGuesses('192.0.2.1'), { code: 'api.too_many' });
  limits.checkGuesses('192.0.2.2');
});

test('TokenCache believes a token for its time, and asks once for many requests', async () => {
  let now = 0;
  let asked = 0;
  const cache = new TokenCache({ ttlMs: 3000, nowMs: () => now });
  const check = async (): Promise<typeof IDENTITY | undefined> => {
    asked += 1;
    return IDENTITY;
  };
  const all = await Promise.all(Array.from({ length: 5 }, () => cache.verify('t', check)));
  assert.deepEqual([asked, all.every((each) => each === IDENTITY)], [1, true]);
  assert.equal(cache.find('t'), IDENTITY);
  assert.equal(cache.find('u'), undefined);
  now = 3000;
  assert.equal(cache.find('t'), undefined);
  assert.equal(await cache.verify('t', async () => undefined), undefined);
  assert.equal(cache.find('t'), undefined);
});
