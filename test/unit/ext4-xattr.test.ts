import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf, type ByteString } from '../../src/core/bytes.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { toExt4Acl } from '../../src/rootfs/ext4/posix-acl.ts';
import { encodeXattrBlock, planXattrs, writeInodeXattrs } from '../../src/rootfs/ext4/xattr.ts';
import type { Xattr } from '../../src/rootfs/tree.ts';

const path = (): string => '/some/file';

function xattr(name: string, value: Buffer): Xattr {
  return { name: bytesOf(name), value };
}

/** Entries of the xattr interface: [tag, permissions, id]. */
function acl(...entries: readonly (readonly [number, number, number?])[]): Buffer {
  const value = Buffer.alloc(4 + entries.length * 8);
  value.writeUInt32LE(2, 0);
  for (const [at, [tag, permissions, id = 0xffffffff]] of entries.entries()) {
    value.writeUInt16LE(tag, 4 + at * 8);
    value.writeUInt16LE(permissions, 6 + at * 8);
    value.writeUInt32LE(id, 8 + at * 8);
  }
  return value;
}

const MINIMAL = [
  [1, 7],
  [4, 5],
  [0x20, 4],
] as const;

test('planXattrs() fills the 92 bytes of the inode exactly and then turns to the block', () => {
  // 4 bytes end mark + 16 of entry + 4 of name leave 68 for the value.
  const fits = planXattrs([xattr('user.abcd', Buffer.alloc(68, 1))], path);
  assert.deepEqual([fits.inInode.length, fits.inBlock.length], [1, 0]);
  const over = planXattrs([xattr('user.abcd', Buffer.alloc(69, 1))], path);
  assert.deepEqual([over.inInode.length, over.inBlock.length], [0, 1]);
});

test('planXattrs() takes a block that is exactly full and refuses one byte more, naming the path', () => {
  // 4096 - 32 header - 4 end mark - 16 entry - 4 name.
  assert.equal(planXattrs([xattr('user.abcd', Buffer.alloc(4040))], path).inBlock.length, 1);
  assert.throws(
    () => planXattrs([xattr('user.abcd', Buffer.alloc(4041))], path),
    (reason) =>
      isBuilderdError(reason, 'artifact.unrepresentable') && reason.message.includes('/some/file'),
  );
});

test('planXattrs() orders by kind, then length, then bytes, as the kernel searches', () => {
  const names = ['user.bb', 'security.x', 'user.a', 'trusted.long', 'user.ab'];
  const plan = planXattrs(
    names.map((name) => xattr(name, Buffer.alloc(200))),
    path,
  );
  assert.deepEqual(
    plan.inBlock.map(({ index, name }) => [index, name]),
    [
      [1, 'a'],
      [1, 'ab'],
      [1, 'bb'],
      [4, 'long'],
      [6, 'x'],
    ],
  );
});

for (const name of ['system.nfs4_acl', 'user.', 'lustre.lov', 'plain', `user.${'n'.repeat(251)}`]) {
  test(`planXattrs() refuses ${name.slice(0, 20)}, for which ext4 has no place`, () => {
    assert.throws(
      () => planXattrs([xattr(name, Buffer.alloc(1))], path),
      (reason) => isBuilderdError(reason, 'artifact.unrepresentable'),
    );
  });
}

test('writeInodeXattrs() puts values at the end, with offsets from the first entry', () => {
  const inode = Buffer.alloc(256);
  const plan = planXattrs([xattr('user.key', Buffer.from('value'))], path);
  writeInodeXattrs(inode, plan.inInode);
  assert.equal(inode.readUInt32LE(160), 0xea020000);
  assert.deepEqual([...inode.subarray(164, 166)], [3, 1]);
  const offset = inode.readUInt16LE(166);
  assert.equal(offset, 256 - 8 - 164);
  assert.equal(inode.toString('latin1', 164 + offset, 164 + offset + 5), 'value');
  assert.equal(inode.readUInt32LE(172), 5);
});

test('encodeXattrBlock() gives an entry the hash that mke2fs -d gives the same attribute', () => {
  // Seen in the block that mke2fs 1.47.0 -d made for user.abcd = 100 times "x".
  const plan = planXattrs([xattr('user.abcd', Buffer.alloc(100, 'x'))], path);
  const block = encodeXattrBlock(plan.inBlock);
  assert.equal(block.readUInt32LE(32 + 12).toString(16), '7c7c7849');
  // The kernel folds the hashes of all entries; of one entry that is its own.
  assert.equal(block.readUInt32LE(12).toString(16), '7c7c7849');
});

test('toExt4Acl() drops the id of unnamed entries and keeps that of named ones', () => {
  const value = acl([1, 7], [2, 6, 1000], [4, 5], [8, 3, 70_000], [0x10, 7], [0x20, 4]);
  const want = Buffer.from(
    '01000000' +
      '01000700' +
      '02000600e8030000' +
      '04000500' +
      '0800030070110100' +
      '10000700' +
      '20000400',
    'hex',
  );
  assert.deepEqual(toExt4Acl(value), want);
});

const BAD_ACLS = [
  [
    'another version',
    (() => Buffer.concat([Buffer.from([1, 0, 0, 0]), acl(...MINIMAL).subarray(4)]))(),
  ],
  ['a cut entry', acl(...MINIMAL).subarray(0, 27)],
  ['no entries', acl()],
  ['wrong order', acl([4, 5], [1, 7], [0x20, 4])],
  ['an owner twice', acl([1, 7], [1, 7], [4, 5], [0x20, 4])],
  ['a named user without a mask', acl([1, 7], [2, 6, 5], [4, 5], [0x20, 4])],
  ['a user twice', acl([1, 7], [2, 6, 5], [2, 6, 5], [4, 5], [0x10, 7], [0x20, 4])],
  ['an unknown tag', acl([1, 7], [4, 5], [0x20, 4], [0x40, 4])],
  ['unknown permissions', acl([1, 8], [4, 5], [0x20, 4])],
  ['no entry for others', acl([1, 7], [4, 5], [0x10, 7])],
] as const;

for (const [name, value] of BAD_ACLS) {
  test(`toExt4Acl() refuses an access list with ${name}`, () => {
    assert.equal(toExt4Acl(value), undefined);
    const bad = { name: 'system.posix_acl_access' as ByteString, value };
    assert.throws(
      () => planXattrs([bad], path),
      (reason) => isBuilderdError(reason, 'artifact.unrepresentable'),
    );
  });
}
