import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { FollowerLimit } from '../../src/builds/service/events/follower-limit.ts';
import { retryDelayMs, WEBHOOK_RETRIES } from '../../src/builds/service/events/retry-delay.ts';
import {
  newWebhookSecret,
  signWebhook,
} from '../../src/builds/service/events/webhook-signature.ts';
import { parseWebhookUrl } from '../../src/builds/service/events/webhook-url.ts';
import { canonicalCredentialHost } from '../../src/builds/service/tenants/credential-host.ts';
import { parseEgressAllow } from '../../src/egress/allow-list.ts';

const NONE = parseEgressAllow('');

test('parseWebhookUrl() takes public https URLs', () => {
  const url = parseWebhookUrl('https://Example.com:8443/a?b=c', {
    allowHttp: false,
    egressAllow: NONE,
  });
  assert.equal(url.href, 'https://example.com:8443/a?b=c');
});

const REFUSED = [
  'http://example.com/',
  'ftp://example.com/',
  'https://user:pass@example.com/',
  'https://example.com/#x',
  'https://127.0.0.1/',
  'https://2130706433/',
  'https://0x7f.1/',
  'https://[::1]/',
  'https://[::ffff:169.254.169.254]/',
  'https://169.254.169.254/latest/meta-data/',
  'https://10.0.0.7/',
  'https://0.0.0.0/',
  'example.com',
  '',
  `https://example.com/${'a'.repeat(3000)}`,
];

test('parseWebhookUrl() refuses other schemes, user info and addresses that are not public', () => {
  for (const raw of REFUSED) {
    assert.throws(
      () => parseWebhookUrl(raw, { allowHttp: false, egressAllow: NONE }),
      (fault: Error) =>
        'code' in fault && fault.code === 'api.invalid' && !fault.message.includes('pass'),
      raw,
    );
  }
});

test('parseWebhookUrl() takes http and a private address when the operator allows them', () => {
  const egressAllow = parseEgressAllow('10.0.0.7:8080');
  const raw = 'http://10.0.0.7:8080/';
  assert.equal(parseWebhookUrl(raw, { allowHttp: true, egressAllow }).href, raw);
  assert.throws(() => parseWebhookUrl('http://10.0.0.7:9/', { allowHttp: true, egressAllow }));
});

test('signWebhook() is HMAC-SHA256 over the time, a dot and the body', () => {
  const secret = newWebhookSecret();
  assert.match(secret, /^whsec_[A-Za-z0-9_-]{43}$/);
  const at = new Date('2026-11-23T12:00:00.900Z');
  const want = createHmac('sha256', secret).update('1795435200.{"ä":1}').digest('hex');
  assert.equal(signWebhook(secret, at, '{"ä":1}'), `t=1795435200,v1=${want}`);
});

test('retryDelayMs() doubles up to its cap, leaves half to chance, and ends', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 11 }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (n, r) => {
        const delay = retryDelayMs(n, WEBHOOK_RETRIES, r) ?? Number.NaN;
        const full = Math.min(10_000 * 2 ** (n - 1), 3_600_000);
        assert.ok(delay >= full / 2 && delay <= full);
      },
    ),
  );
  assert.equal(retryDelayMs(12, WEBHOOK_RETRIES, 0), undefined);
  assert.equal(retryDelayMs(1, WEBHOOK_RETRIES, 0, 99_000), 99_000);
});

test('FollowerLimit counts by tenant and in all, and gives places back once', () => {
  const limit = new FollowerLimit({ perTenant: 2, total: 3 });
  const a1 = limit.enter('a');
  const a2 = limit.enter('a');
  assert.throws(() => limit.enter('a'), { code: 'api.too_many' });
  const b1 = limit.enter('b');
  assert.throws(() => limit.enter('c'), { code: 'api.too_many' });
  a1[Symbol.dispose]();
  a1[Symbol.dispose]();
  limit.check('c');
  const c1 = limit.enter('c');
  assert.throws(() => limit.enter('a'), { code: 'api.too_many' });
  a2[Symbol.dispose]();
  b1[Symbol.dispose]();
  c1[Symbol.dispose]();
});

const HOSTS: readonly (readonly [string, string])[] = [
  ['GHCR.io', 'ghcr.io'],
  ['ghcr.io:443', 'ghcr.io:443'],
  ['index.docker.io', 'docker.io'],
  ['localhost:5000', 'localhost:5000'],
  ['[::1]:5000', '[::1]:5000'],
];

test('canonicalCredentialHost() gives one spelling and keeps the port', () => {
  for (const [raw, want] of HOSTS) assert.equal(canonicalCredentialHost(raw), want);
});

test('canonicalCredentialHost() refuses URLs, users and wildcards without showing them', () => {
  for (const raw of [
    'https://ghcr.io',
    'me:hunter2@ghcr.io',
    '*.ghcr.io',
    '',
    'a b',
    'x:99999',
    'x:',
  ]) {
    assert.throws(
      () => canonicalCredentialHost(raw),
      (fault: Error) =>
        'code' in fault && fault.code === 'api.invalid' && !fault.message.includes('hunter2'),
      raw,
    );
  }
});
