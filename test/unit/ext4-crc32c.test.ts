import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CRC_START, crc32c, crc32cOfNumber, crc32cOfZeros } from '../../src/rootfs/ext4/crc32c.ts';

/** RFC 3720, B.4, and the classic check value; all inverted at the end, as iSCSI wants. */
const VECTORS = [
  ['the digits 1 to 9', Buffer.from('123456789'), 0xe3069283],
  ['32 zero bytes', Buffer.alloc(32), 0x8a9136aa],
  ['32 bytes of ones', Buffer.alloc(32, 0xff), 0x62a8ab43],
  ['32 ascending bytes', Buffer.from(Array.from({ length: 32 }, (_, at) => at)), 0x46dd794e],
  ['nothing', Buffer.alloc(0), 0],
] as const;

for (const [name, data, want] of VECTORS) {
  test(`crc32c() gives the published value for ${name}`, () => {
    assert.equal((~crc32c(CRC_START, data) >>> 0).toString(16), want.toString(16));
  });
}

test('crc32c() gives the same in one piece and in two', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(300), fc.nat(), (data, cut, seed) => {
      const at = Math.min(cut, data.length);
      const parts = crc32c(crc32c(seed, data, 0, at), data, at, data.length);
      assert.equal(parts, crc32c(seed, data));
    }),
  );
});

test('crc32cOfZeros() equals crc32c() over a buffer of zeros', () => {
  fc.assert(
    fc.property(fc.nat(8191), fc.integer({ min: 0, max: 0xffffffff }), (count, seed) => {
      assert.equal(crc32cOfZeros(seed, count), crc32c(seed, Buffer.alloc(count)));
    }),
  );
  assert.throws(() => crc32cOfZeros(1, 8192), RangeError);
});

test('crc32cOfNumber() equals crc32c() over four little-endian bytes', () => {
  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  fc.assert(
    fc.property(u32, u32, (seed, number) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(number);
      assert.equal(crc32cOfNumber(seed, number), crc32c(seed, bytes));
    }),
  );
});
