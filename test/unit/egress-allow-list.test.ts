import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../src/egress/address.ts';
import { parseEgressAllow } from '../../src/egress/allow-list.ts';
import { canonicalHost, hostPortOf, parseHttpUrl } from '../../src/egress/host.ts';

function permits(list: string, host: string, address: string, port: number): boolean {
  const bytes = parseAddress(address);
  assert.ok(bytes);
  return parseEgressAllow(list).permits({ host: canonicalHost(host), address: bytes, port });
}

test('EgressAllowList permits public addresses without an entry', () => {
  assert.equal(permits('', 'example.com', '93.184.216.34', 443), true);
});

test('EgressAllowList refuses loopback without an entry', () => {
  assert.equal(permits('', 'localhost', '127.0.0.1', 5000), false);
});

test('EgressAllowList holds an address entry to its port', () => {
  assert.equal(permits('127.0.0.1:5000', '127.0.0.1', '127.0.0.1', 5000), true);
  assert.equal(permits('127.0.0.1:5000', '127.0.0.1', '127.0.0.1', 5001), false);
  assert.equal(permits('127.0.0.1:5000', '127.0.0.1', '127.0.0.2', 5000), false);
});

test('EgressAllowList reads CIDRs with and without a port, and IPv6 in brackets', () => {
  assert.equal(permits('10.0.0.0/8', 'a', '10.9.9.9', 1), true);
  assert.equal(permits('10.0.0.0/8:5000', 'a', '10.9.9.9', 1), false);
  assert.equal(permits('[fd00::/8]:5000', 'a', 'fd12::1', 5000), true);
  assert.equal(permits('fd00::/8', 'a', 'fd12::1', 7), true);
  assert.equal(permits('::1', 'a', '::1', 7), true);
});

test('EgressAllowList lets a name stand for a private address but never for metadata', () => {
  const list = 'registry.internal:5000';
  assert.equal(permits(list, 'Registry.Internal.', '10.0.0.5', 5000), true);
  assert.equal(permits(list, 'other.internal', '10.0.0.5', 5000), false);
  assert.equal(permits(list, 'registry.internal', '169.254.169.254', 5000), false);
  assert.equal(permits(list, 'registry.internal', '224.0.0.1', 5000), false);
});

test('parseEgressAllow() refuses entries that say less than they seem to', () => {
  for (const text of [
    'registry.internal',
    '10.0.0.0/33',
    'host:0',
    'host:99999',
    '[host]:1',
    'a b:1',
    '*:5000',
  ]) {
    assert.throws(() => parseEgressAllow(text), { code: 'config.invalid' }, text);
  }
});

test('canonicalHost() gives one spelling to every form of a host', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['EXAMPLE.com.', 'example.com'],
    ['2130706433', '127.0.0.1'],
    ['0x7f.1', '127.0.0.1'],
    ['0177.0.0.01', '127.0.0.1'],
    ['127.1', '127.0.0.1'],
    ['[::FFFF:127.0.0.1]', '::ffff:7f00:1'],
    ['0:0::1', '::1'],
    ['bücher.example', 'xn--bcher-kva.example'],
  ];
  for (const [text, want] of cases) assert.equal(canonicalHost(text), want, text);
});

test('canonicalHost() refuses zone ids, user info, ports and empty labels', () => {
  for (const text of [
    'fe80::1%eth0',
    '[fe80::1%25eth0]',
    'a@b',
    'a:80',
    'a..b',
    '',
    '-a',
    'a/b',
    '999.1.1.1',
    'a%2eb',
  ]) {
    assert.throws(() => canonicalHost(text), { code: 'source.invalid' }, text);
  }
});

test('parseHttpUrl() refuses user info and other schemes, and never shows the user info', () => {
  for (const text of [
    'http://user:hunter2@host/',
    'ftp://user:hunter2@host/',
    'file:///etc/passwd',
    'x',
  ]) {
    assert.throws(
      () => parseHttpUrl(text),
      (reason: unknown) => reason instanceof Error && !reason.message.includes('hunter2'),
    );
  }
  assert.equal(hostPortOf(parseHttpUrl('https://Host.Example./v2/')), 'host.example:443');
});
