import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type AddressClass,
  cidrContains,
  classifyAddress,
  formatAddress,
  parseAddress,
  parseCidr,
} from '../../src/egress/address.ts';

const CASES: readonly (readonly [string, AddressClass])[] = [
  ['8.8.8.8', 'public'],
  ['2606:4700::1111', 'public'],
  ['127.0.0.1', 'loopback'],
  ['127.255.255.254', 'loopback'],
  ['::1', 'loopback'],
  ['::ffff:127.0.0.1', 'loopback'],
  ['::ffff:7f00:1', 'loopback'],
  ['10.1.2.3', 'private'],
  ['172.16.0.1', 'private'],
  ['172.31.255.255', 'private'],
  ['172.32.0.1', 'public'],
  ['192.168.1.1', 'private'],
  ['100.64.0.1', 'private'],
  ['100.127.255.255', 'private'],
  ['100.128.0.0', 'public'],
  ['fd12:3456::1', 'private'],
  ['169.254.1.1', 'link-local'],
  ['fe80::1', 'link-local'],
  ['169.254.169.254', 'metadata'],
  ['168.63.129.16', 'metadata'],
  ['fd00:ec2::254', 'metadata'],
  ['0.0.0.0', 'unspecified'],
  ['::', 'unspecified'],
  ['224.0.0.1', 'multicast'],
  ['ff02::1', 'multicast'],
  ['255.255.255.255', 'reserved'],
  ['192.0.2.1', 'reserved'],
  ['64:ff9b::7f00:1', 'reserved'],
  ['2002:7f00:1::', 'reserved'],
  ['2001:0:1::', 'reserved'],
  ['::127.0.0.1', 'reserved'],
];

for (const [text, want] of CASES) {
  test(`classifyAddress() says ${want} of ${text}`, () => {
    const bytes = parseAddress(text);
    assert.ok(bytes);
    assert.equal(classifyAddress(bytes), want);
  });
}

test('parseAddress() refuses zone ids, short forms and names', () => {
  for (const text of [
    'fe80::1%eth0',
    '127.1',
    '0x7f000001',
    '2130706433',
    'localhost',
    '',
    '1.2.3.4.5',
  ]) {
    assert.equal(parseAddress(text), undefined, text);
  }
});

test('parseAddress() reads back what formatAddress() writes', () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6());
  fc.assert(
    fc.property(address, (text) => {
      const bytes = parseAddress(text);
      assert.ok(bytes);
      assert.deepEqual(parseAddress(formatAddress(bytes)), bytes);
    }),
  );
});

test('cidrContains() holds for the address itself and fails when a prefix bit flips', () => {
  fc.assert(
    fc.property(fc.ipV4(), fc.integer({ min: 1, max: 32 }), (text, prefix) => {
      const cidr = parseCidr(`${text}/${prefix}`);
      const bytes = parseAddress(text);
      assert.ok(cidr && bytes);
      assert.equal(cidrContains(cidr, bytes), true);
      const bit = prefix - 1;
      const flipped = bytes.map((byte, at) =>
        at === bit >> 3 ? byte ^ (0x80 >> (bit & 7)) : byte,
      );
      assert.equal(cidrContains(cidr, flipped), false);
    }),
  );
});

test('parseCidr() refuses what is not an address with a prefix', () => {
  for (const text of [
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/08',
    '10.0.0.0/8/8',
    '::/129',
    'x/8',
    '/8',
  ]) {
    assert.equal(parseCidr(text), undefined, text);
  }
});
