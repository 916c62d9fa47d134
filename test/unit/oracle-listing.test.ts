import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ByteString } from '../../src/core/bytes.ts';
import { diffTrees } from '../fixtures/oracle/diff-trees.ts';
import { listTree } from '../fixtures/oracle/list-tree.ts';
import { type ListedEntry, type Listing, listingOf } from '../fixtures/oracle/listing.ts';

const bytes = (text: string): ByteString => text as ByteString;

const FILE: ListedEntry = {
  type: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtimeNs: 1_000_000_001n,
  size: 3,
  sha256: 'aa',
  xattrs: new Map([[bytes('user.a'), '00ff']]),
  rdev: '',
  target: bytes(''),
  hardlinkOf: bytes(''),
};
const tree = (entry: ListedEntry): Listing => new Map([[bytes('f'), entry]]);

const CHANGES: readonly (readonly [Partial<ListedEntry>, string])[] = [
  [{ type: 'fifo' }, '/f: type want file, got fifo'],
  [{ mode: 0o4644 }, '/f: mode want 644, got 4644'],
  [{ uid: 1 }, '/f: owner want 0:0, got 1:0'],
  [{ gid: 2 }, '/f: owner want 0:0, got 0:2'],
  [{ mtimeNs: 1_000_000_000n }, '/f: mtime want 1+000000001ns, got 1+000000000ns'],
  [{ mtimeNs: -1n }, '/f: mtime want 1+000000001ns, got -1+999999999ns'],
  [{ size: 4 }, '/f: size want 3, got 4'],
  [{ sha256: 'bb' }, '/f: content want aa, got bb'],
  [{ rdev: '1:3' }, '/f: device want (none), got 1:3'],
  [{ target: bytes('\xff') }, '/f: target want (none), got \\xff'],
  [{ hardlinkOf: bytes('e') }, '/f: hard link of want (none), got e'],
  [{ xattrs: new Map() }, '/f: xattr user.a want 0x00ff, got (absent)'],
  [{ xattrs: new Map([[bytes('user.a'), '']]) }, '/f: xattr user.a want 0x00ff, got 0x'],
];

for (const [change, line] of CHANGES) {
  test(`diffTrees() says "${line}"`, () => {
    assert.deepEqual(diffTrees(tree(FILE), tree({ ...FILE, ...change })), [line]);
  });
}

test('diffTrees() finds nothing between equal trees and names what is missing or too much', () => {
  assert.deepEqual(diffTrees(tree(FILE), tree({ ...FILE, xattrs: new Map(FILE.xattrs) })), []);
  assert.deepEqual(diffTrees(tree(FILE), new Map()), ['/f: missing file']);
  assert.deepEqual(diffTrees(new Map(), tree(FILE)), ['/f: unexpected file']);
});

test('diffTrees() leaves out times of the root and of named directories only', () => {
  const dir: ListedEntry = { ...FILE, type: 'dir', size: 0, sha256: '' };
  const late = { ...dir, mtimeNs: 5n };
  const at = (entry: ListedEntry): Listing =>
    new Map([
      [bytes(''), entry],
      [bytes('d'), entry],
    ]);
  assert.equal(diffTrees(at(dir), at(late)).length, 1);
  assert.deepEqual(diffTrees(at(dir), at(late), { anyTime: new Set([bytes('d')]) }), []);
  const files = diffTrees(tree(FILE), tree({ ...FILE, mtimeNs: 5n }), {
    anyTime: new Set([bytes('f')]),
  });
  assert.equal(files.length, 1);
});

test('listingOf() names a hard-link group after its smallest path', () => {
  const inode = {};
  const { hardlinkOf, ...entry } = FILE;
  assert.equal(hardlinkOf, '');
  const named = ['c', 'b', 'x'].map((path) => ({
    path: bytes(path),
    inode: path === 'x' ? {} : inode,
    entry,
  }));
  const listing = listingOf(named);
  assert.deepEqual(
    [...listing].map(([path, { hardlinkOf }]) => [path, hardlinkOf]),
    [
      ['b', 'b'],
      ['c', 'b'],
      ['x', ''],
    ],
  );
});

test('listTree() reads types, modes, times, links, targets, names that are not UTF-8 and xattrs', () => {
  const root = mkdtempSync(join(tmpdir(), 'listing-'));
  try {
    mkdirSync(join(root, 'd'));
    chmodSync(join(root, 'd'), 0o1755);
    writeFileSync(Buffer.concat([Buffer.from(`${root}/d/`), Buffer.from([0xff])]), 'abc');
    writeFileSync(join(root, 'f'), '');
    linkSync(join(root, 'f'), join(root, 'g'));
    symlinkSync('to', join(root, 's'));
    execFileSync('mkfifo', [join(root, 'p')]);
    execFileSync('setfattr', ['-n', 'user.k', '-v', '0x00ff', join(root, 'f')]);
    execFileSync('touch', ['--date=@-1.5', join(root, 'f')]);
    const listing = listTree(root, { skip: ['p'] });
    assert.deepEqual([...listing.keys()], ['', 'd', 'd/\xff', 'f', 'g', 's']);
    assert.equal(listing.get(bytes('d'))?.mode, 0o1755);
    assert.equal(
      listing.get(bytes('d/\xff'))?.sha256,
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
    assert.equal(listing.get(bytes('f'))?.mtimeNs, -1_500_000_000n);
    assert.equal(listing.get(bytes('g'))?.hardlinkOf, 'f');
    assert.deepEqual([...(listing.get(bytes('g'))?.xattrs ?? [])], [['user.k', '00ff']]);
    assert.equal(listing.get(bytes('s'))?.target, 'to');
  } finally {
    rmSync(root, { recursive: true });
  }
});
