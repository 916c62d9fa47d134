import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString } from '../../src/core/bytes.ts';
import { DirectoryHasher } from '../../src/rootfs/ext4/half-md4.ts';
import { COLLIDING_HASH, COLLIDING_NAMES, HASH_SEED } from '../fixtures/ext4-image.ts';

const SEED = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');

/** From `debugfs -R "dx_hash -h half_md4 -s 00010203-0405-0607-0809-0a0b0c0d0e0f NAME"`, 1.47.0. */
const VECTORS = [
  ['a', 0xa2fa3a0],
  ['passwd', 0xa46f5858],
  ['file-number-7', 0x5e503c60],
  ['x'.repeat(255), 0xba908bbe],
  ['0123456789abcdef0123456789abcdef', 0x387ef65c],
  ['0123456789abcdef0123456789abcdefg', 0xc814f632],
] as const;

for (const [name, want] of VECTORS) {
  test(`DirectoryHasher.hash() agrees with debugfs on ${name.slice(0, 40)}`, () => {
    const got = new DirectoryHasher(SEED).hash(name as ByteString);
    assert.equal(got.toString(16), want.toString(16));
  });
}

test('DirectoryHasher.hash() takes the standard start values for a seed of zeros', () => {
  assert.equal(new DirectoryHasher(Buffer.alloc(16)).hash('passwd' as ByteString), 0xeadd3d7e);
});

test('DirectoryHasher.hash() gives two known names the same value', () => {
  const hasher = new DirectoryHasher(HASH_SEED);
  for (const name of COLLIDING_NAMES) assert.equal(hasher.hash(name as ByteString), COLLIDING_HASH);
});
