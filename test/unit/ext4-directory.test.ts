import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString } from '../../src/core/bytes.ts';
import {
  planDirectory,
  writeDirectory,
  type DirectoryEntry,
} from '../../src/rootfs/ext4/directory.ts';
import { DirectoryHasher } from '../../src/rootfs/ext4/half-md4.ts';
import { collidingDirectory, COLLIDING_HASH, HASH_SEED } from '../fixtures/ext4-image.ts';

const hasher = new DirectoryHasher(HASH_SEED);

function entriesOf(names: readonly string[]): DirectoryEntry[] {
  return names.map((name, at) => ({ name: name as ByteString, ino: 100 + at, fileType: 1 }));
}

function blocksOf(names: readonly string[]): Buffer[] {
  const blocks: Buffer[] = [];
  const plan = planDirectory(entriesOf(names), hasher);
  writeDirectory(plan, { ino: 12, parent: 2, seed: 1 }, () => {
    const block = Buffer.alloc(4096);
    blocks.push(block);
    return block;
  });
  assert.equal(blocks.length, plan.blocks);
  return blocks;
}

/** Names in a block of entries; checks that the records cover it up to the checksum. */
function namesIn(block: Buffer): string[] {
  const names: string[] = [];
  let at = 0;
  while (at < 4084) {
    const length = block.readUInt16LE(at + 4);
    const nameLength = block[at + 6] ?? 0;
    if (block.readUInt32LE(at) !== 0)
      names.push(block.toString('latin1', at + 8, at + 8 + nameLength));
    at += length;
  }
  assert.equal(at, 4084);
  return names;
}

test('planDirectory() keeps a block that is exactly full as a plain list', () => {
  // 24 bytes of dots and 29 records of 140 are 4084.
  const names = Array.from({ length: 29 }, (_, at) => `${at}`.padStart(132, 'n'));
  assert.equal(blocksOf(names).length, 1);
  assert.equal(blocksOf([...names.slice(1), 'n'.repeat(133)]).length, 2);
});

test('writeDirectory() keeps every name exactly once, in leaves that ascend by hash', () => {
  const names = Array.from({ length: 5000 }, (_, at) => `name-${at}`).sort();
  const [root, ...leaves] = blocksOf(names);
  assert.ok(root !== undefined);
  assert.equal(root.readUInt16LE(32), 507);
  assert.equal(root.readUInt16LE(34), leaves.length);
  let previous = 0;
  const found: string[] = [];
  for (const [at, leaf] of leaves.entries()) {
    assert.equal(root.readUInt32LE(36 + at * 8), 1 + at);
    for (const name of namesIn(leaf)) {
      const hash = hasher.hash(name as ByteString);
      assert.ok(hash >= previous);
      previous = hash;
      found.push(name);
    }
  }
  assert.deepEqual(found.sort(), names);
});

test('planDirectory() marks a leaf that begins with the hash on which the last one ended', () => {
  const { leaves } = planDirectory(entriesOf(collidingDirectory()), hasher);
  assert.equal(leaves[1]?.hash, COLLIDING_HASH + 1);
  assert.ok(leaves.every(({ hash }, at) => at === 1 || hash % 2 === 0));
});

/** Names of 255 bytes: fifteen to a leaf. */
function longNames(count: number): string[] {
  return Array.from({ length: count }, (_, at) => `${at}`.padStart(255, 'n'));
}

test('planDirectory() puts a second level between once the root is full', () => {
  assert.equal(planDirectory(entriesOf(longNames(507 * 15)), hasher).blocks, 1 + 507);
  assert.equal(planDirectory(entriesOf(longNames(507 * 15 + 1)), hasher).blocks, 1 + 1 + 508);
  assert.equal(planDirectory(entriesOf(longNames(511 * 15)), hasher).blocks, 1 + 2 + 511);
});
