import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  collidingDirectory,
  debugfs,
  e2fsckComplaint,
  makeImage,
  temporaryDirectory,
  type ImageRequest,
} from '../fixtures/ext4-image.ts';
import { directoryOf, type NodeSpec } from '../fixtures/tree-maker.ts';

const MIB = 2 ** 20;
const GROUP = 32768;

const long = (at: number): string => `${at}`.padEnd(255, 'n');
const short = (at: number): string => `file-${at}`;

function deep(levels: number): NodeSpec {
  let spec: NodeSpec = { content: Buffer.from('bottom') };
  for (let level = 0; level < levels; level += 1) spec = { children: { d: spec, e: {} } };
  return spec;
}

/** Runs of one block with a hole after each: every one is an extent. */
function sparse(extents: number): NodeSpec {
  const piece = Buffer.alloc(4096, 'p');
  return { content: Array.from({ length: extents }, (_, at) => [at * 8192, piece] as const) };
}

const TREES: readonly (readonly [string, ImageRequest])[] = [
  ['one entry', { spec: { children: { only: {} } }, options: { lostFound: false } }],
  [
    'an entry called lost+found',
    { spec: { children: { 'lost+found': { content: Buffer.from('x') } } } },
  ],
  [
    'a directory that is just too large for one block',
    {
      spec: { children: { d: directoryOf(29, (at) => `${at}`.padEnd(at === 0 ? 133 : 132, '-')) } },
    },
  ],
  ['20,000 names in one directory', { spec: { children: { d: directoryOf(20_000, short) } } }],
  ['70,000 names in one directory', { spec: { children: { d: directoryOf(70_000, short) } } }],
  ['a full index root', { spec: { children: { d: directoryOf(507 * 15, long) } } }],
  ['two levels of index', { spec: { children: { d: directoryOf(1100 * 15, long) } } }],
  [
    'two names of one hash at the border of leaves',
    {
      spec: {
        children: {
          d: { children: Object.fromEntries(collidingDirectory().map((name) => [name, {}])) },
        },
      },
    },
  ],
  ['1,000 levels', { spec: { children: { d: deep(1000) } } }],
  [
    'thousands of extents',
    {
      spec: {
        children: { five: sparse(5), full: sparse(1360), more: sparse(1361), many: sparse(6000) },
      },
    },
  ],
  [
    'attributes that fill inode and block exactly',
    {
      spec: {
        children: {
          inode: { xattrs: { 'user.abcd': Buffer.alloc(68, 1) } },
          block: { xattrs: { 'user.abcd': Buffer.alloc(4040, 1) } },
          both: {
            xattrs: { 'user.abcd': Buffer.alloc(68, 1), 'user.efgh': Buffer.alloc(4040, 1) },
          },
        },
      },
    },
  ],
  [
    '3,000 files that share their attributes',
    {
      spec: {
        children: {
          d: directoryOf(3000, short, { xattrs: { 'user.shared': Buffer.alloc(500, 7) } }),
        },
      },
    },
  ],
  [
    'files of all the lengths that turn a link slow',
    {
      spec: {
        children: Object.fromEntries(
          [1, 58, 59, 60, 61, 4094, 4095].map((length) => [
            `l${length}`,
            { kind: 'symlink' as const, target: 't'.repeat(length) },
          ]),
        ),
      },
    },
  ],
  ['a file of 8 TiB that is all hole', { spec: { children: { f: { size: 2 ** 43 } } } }],
  ['12 GB of which little is there', { spec: { children: { f: { ...sparse(3), size: 12e9 } } } }],
];

for (const [name, request] of TREES) {
  test(`writeExt4() makes a disk of ${name} in which e2fsck finds nothing`, async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'image');
    await makeImage(path, request);
    assert.equal(await e2fsckComplaint(path), undefined);
  });
}

/** Content that ends just before, at and after the borders of groups with and without copies. */
for (const group of [1, 2, 3, 4]) {
  for (const offset of [-300, -140, -129, -3, -2, -1, 0, 1, 60]) {
    test(`writeExt4() copes with content that ends ${offset} blocks from group ${group}`, async () => {
      await using directory = await temporaryDirectory();
      const path = join(directory.path, 'image');
      const reserved = 129 * (group > 3 ? 3 : group > 1 ? 2 : 1);
      const blocks = group * GROUP - reserved + offset;
      const { summary } = await makeImage(path, {
        spec: { children: { f: { blocks }, d: directoryOf(500, short) } },
      });
      assert.equal(await e2fsckComplaint(path), undefined);
      // Room is lost only where a table did not fit in front of a copy.
      assert.ok(summary.freeBlocks < 64, `${summary.freeBlocks} blocks are free`);
    });
  }
}

const SIZES: readonly (readonly [string, number, boolean])[] = [
  ['200 MiB', 200 * MIB, false],
  ['400 MiB with a journal', 400 * MIB, true],
  ['exactly three groups', 3 * GROUP * 4096, false],
  ['three groups and a bit that is too small for a fourth', 3 * GROUP * 4096 + 140 * 4096, false],
  ['12 GiB with a journal', 12 * 1024 * MIB, true],
];

for (const [name, bytes, journal] of SIZES) {
  test(`writeExt4() fills a disk of ${name} to the last byte and leaves the rest free`, async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'image');
    const spec = {
      children: { f: { blocks: Math.floor(bytes / 4096 / 2) }, d: directoryOf(100, short) },
    };
    const { summary } = await makeImage(path, {
      spec,
      options: { journal, size: { kind: 'fixed', bytes } },
    });
    assert.equal(summary.sizeBytes, bytes);
    assert.equal(await e2fsckComplaint(path), undefined);
    assert.ok(
      summary.freeInodes > bytes / 2 / 16384 / 1.2,
      `${summary.freeInodes} inodes are free`,
    );
  });
}

test('writeExt4() makes a disk of 12 GiB of content in which e2fsck finds nothing', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  const spec = { children: { f: { blocks: 12 * 2 ** 18 }, d: directoryOf(10, short) } };
  const { summary } = await makeImage(path, { spec });
  assert.equal(await e2fsckComplaint(path), undefined);
  assert.ok(summary.sizeBytes < 1.002 * 12 * 2 ** 30);
});

test('writeExt4() gives up counting the links of a directory with 65,000 subdirectories', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  await makeImage(path, {
    spec: {
      children: {
        most: directoryOf(64_998, short, { children: {} }),
        more: directoryOf(64_999, short, { children: {} }),
      },
    },
  });
  assert.equal(await e2fsckComplaint(path), undefined);
  assert.match(await debugfs(path, 'stat /most'), /Links: 65000 /);
  assert.match(await debugfs(path, 'stat /more'), /Links: 1 /);
});

test('writeExt4() spends at most 2 % on a disk of 170 MB', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  const files = Object.fromEntries(
    Array.from({ length: 700 }, (_, at) => [short(at), directoryOf(10, short, { blocks: 6 })]),
  );
  const { tree, summary } = await makeImage(path, { spec: { children: files } });
  assert.equal(await e2fsckComplaint(path), undefined);
  // Content is what is in use: data, one block a directory, 256 bytes an inode.
  const { contentBlocks, directories, inodes } = tree.counts;
  const content = contentBlocks * 4096 + directories * 4096 + inodes * 256;
  assert.ok(summary.sizeBytes <= 1.02 * content, `${summary.sizeBytes / content}`);
});
