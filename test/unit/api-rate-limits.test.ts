import assert from 'node:assert/strict';
import { Socket } from 'node:net';
import { test } from 'node:test';
import { DEFAULT_API_LIMITS } from '../../src/api/api-limits.ts';
import { AddressLimits } from '../../src/api/auth/address-limits.ts';
import { TokenBuckets } from '../../src/api/auth/token-bucket.ts';
import { TokenCache } from '../../src/api/auth/token-cache.ts';
import { networkOf } from '../../src/api/http/network-of.ts';
import { capByNetwork } from '../../src/api/server/socket-share.ts';

const IDENTITY = { actor: 'token:1', role: 'tenant', tenants: new Set<never>() } as const;

const inTime = { signal: AbortSignal.timeout(60_000) };
const guessLimits = (): AddressLimits =>
  new AddressLimits({ ...DEFAULT_API_LIMITS, failureBurst: 2, failuresPerMinute: 1 }, () => 0);
const wrong = async (): Promise<string | undefined> => undefined;
const right = async (): Promise<string | undefined> => 'somebody';

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
  assert.equal(buckets.take('a', size).remaining, 2);
  buckets.giveBack('a', size);
  buckets.giveBack('a', size);
  assert.equal(buckets.take('a', size).remaining, 2);
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

test('AddressLimits refuse an address that guesses, and no other', async () => {
  const limits = guessLimits();
  assert.equal(await limits.guess('192.0.2.1', wrong, inTime), undefined);
  assert.equal(await limits.guess('192.0.2.1', wrong, inTime), undefined);
  await assert.rejects(limits.guess('192.0.2.1', right, inTime), { code: 'api.too_many' });
  assert.equal(await limits.guess('192.0.2.2', right, inTime), 'somebody');
});

test('AddressLimits wake one that waits for each guess that comes back, in their order', async () => {
  const limits = guessLimits();
  const order: number[] = [];
  let waits = 0;
  const guess = (n: number): Promise<unknown> => {
    const { signal } = new AbortController();
    const listen = signal.addEventListener.bind(signal);
    // Whoever waits again listens again.
    signal.addEventListener = (...call: Parameters<typeof listen>): void => {
      waits += 1;
      listen(...call);
    };
    const check = async (): Promise<string> => {
      order.push(n);
      await new Promise(setImmediate);
      return 'somebody';
    };
    return limits.guess('192.0.2.1', check, { signal });
  };
  await Promise.all(Array.from({ length: 100 }, (_, n) => guess(n)));
  assert.deepEqual(
    order,
    Array.from({ length: 100 }, (_, n) => n),
  );
  assert.equal(waits, 98);
});

test('AddressLimits hand no guess to one that has left', async () => {
  const limits = guessLimits();
  const gate = Promise.withResolvers<void>();
  const held = async (): Promise<string> => {
    await gate.promise;
    return 'somebody';
  };
  const first = [limits.guess('192.0.2.1', held, inTime), limits.guess('192.0.2.1', held, inTime)];
  const control = new AbortController();
  const leaving = limits.guess('192.0.2.1', right, { signal: control.signal });
  const staying = limits.guess('192.0.2.1', right, inTime);
  control.abort(new Error('the client left'));
  gate.resolve();
  await assert.rejects(leaving, /the client left/);
  assert.equal(await staying, 'somebody');
  await Promise.all(first);
  // Both are there again.
  assert.equal(await limits.guess('192.0.2.1', wrong, inTime), undefined);
  assert.equal(await limits.guess('192.0.2.1', wrong, inTime), undefined);
  await assert.rejects(limits.guess('192.0.2.1', right, inTime), { code: 'api.too_many' });
});

test('AddressLimits count guesses that come all at once before they are looked at', async () => {
  const limits = guessLimits();
  let tried = 0;
  const slowly = async (): Promise<undefined> => {
    tried += 1;
    await new Promise(setImmediate);
  };
  const all = await Promise.allSettled(
    Array.from({ length: 50 }, () => limits.guess('192.0.2.1', slowly, inTime)),
  );
  assert.equal(tried, 2);
  assert.equal(all.filter(({ status }) => status === 'rejected').length, 48);
});

test('AddressLimits let any number of right credentials in from one network at once', async () => {
  const limits = guessLimits();
  const slowly = async (): Promise<string> => {
    await new Promise(setImmediate);
    return 'somebody';
  };
  const all = await Promise.all(
    Array.from({ length: 50 }, (_, n) => limits.guess(`2001:db8::${n + 1}`, slowly, inTime)),
  );
  assert.ok(all.every((each) => each === 'somebody'));
});

test('AddressLimits give back the guess of a credential that could not be looked at', async () => {
  const limits = guessLimits();
  const away = async (): Promise<never> => {
    throw new Error('the database is away');
  };
  for (let n = 0; n < 5; n += 1) {
    await assert.rejects(limits.guess('192.0.2.1', away, inTime), /away/);
  }
  assert.equal(await limits.guess('192.0.2.1', right, inTime), 'somebody');
});

test('capByNetwork() counts the sockets of an IPv6 customer together, and those of a proxy not at all', () => {
  const admitted = capByNetwork(2, (address) => address === '10.0.0.1');
  const opened: Socket[] = [];
  const open = (remoteAddress: string): boolean => {
    const socket = Object.defineProperty(new Socket(), 'remoteAddress', { value: remoteAddress });
    opened.push(socket);
    assert.equal(socket.destroyed, false);
    const isAdmitted = admitted(socket);
    assert.equal(socket.destroyed, !isAdmitted);
    return isAdmitted;
  };
  const addresses: [address: string, isAdmitted: boolean][] = [
    ['2001:db8::1', true],
    ['2001:db8::2', true],
    ['2001:db8::3', false],
    ['2001:db8:0:1::1', true],
    ['192.0.2.1', true],
    ['::ffff:192.0.2.1', true],
    ['192.0.2.1', false],
    ['10.0.0.1', true],
    ['10.0.0.1', true],
    ['10.0.0.1', true],
  ];
  for (const [address, isAdmitted] of addresses) assert.equal(open(address), isAdmitted, address);
  opened[0]?.emit('close');
  assert.equal(open('2001:db8::4'), true);
  assert.equal(open('2001:db8::5'), false);
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
