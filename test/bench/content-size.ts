import { lstat, open, readdir } from 'node:fs/promises';

export interface ContentSize {
  /** Least bytes that the content needs in ext4: blocks of data and names, and the inodes. */
  readonly bytes: number;
  readonly inodes: number;
}

const BLOCK_BYTES = 4096;
const INODE_BYTES = 256;
/** Longer targets need a block; shorter ones fit into the inode. */
const FAST_SYMLINK_BYTES = 59;
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

/**
 * What a tree weighs, whatever tool unpacked it: a block of zeros costs nothing, because it can be
 * a hole, and a file with several names counts once.
 */
export async function contentSize(tree: string): Promise<ContentSize> {
  const seen = new Set<string>();
  const buffer = Buffer.alloc(1 << 20);
  const directories: Buffer[] = [Buffer.from(tree)];
  let blocks = 0;
  let inodes = 1;
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    // "." and ".." take 12 bytes each, every other name 8 and its length, rounded up to four.
    let nameBytes = 24;
    // Names are bytes: the odd ones of the fixture are not UTF-8.
    for (const name of await readdir(directory, { encoding: 'buffer' })) {
      nameBytes += 8 + Math.ceil(name.length / 4) * 4;
      const path = Buffer.concat([directory, Buffer.from('/'), name]);
      const stat = await lstat(path);
      const identity = `${stat.dev}:${stat.ino}`;
      if (seen.has(identity)) continue;
      if (stat.nlink > 1) seen.add(identity);
      inodes += 1;
      if (stat.isDirectory()) directories.push(path);
      if (stat.isSymbolicLink() && stat.size > FAST_SYMLINK_BYTES) blocks += 1;
      if (stat.isFile()) blocks += await dataBlocks(path, buffer);
    }
    blocks += Math.ceil(nameBytes / BLOCK_BYTES);
  }
  return { bytes: blocks * BLOCK_BYTES + inodes * INODE_BYTES, inodes };
}

async function dataBlocks(path: Buffer, buffer: Buffer): Promise<number> {
  await using file = await open(path, 'r');
  let blocks = 0;
  for (let position = 0; ; position += buffer.length) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
    for (let start = 0; start < bytesRead; start += BLOCK_BYTES) {
      const block = buffer.subarray(start, Math.min(start + BLOCK_BYTES, bytesRead));
      if (!block.equals(ZERO_BLOCK.subarray(0, block.length))) blocks += 1;
    }
    if (bytesRead < buffer.length) return blocks;
  }
}
