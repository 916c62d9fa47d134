import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { isBuilderdError } from '../../src/core/errors.ts';
import { writeExt4 } from '../../src/rootfs/ext4/writer.ts';
import {
  debugfs,
  e2fsckComplaint,
  HASH_SEED,
  makeImage,
  temporaryDirectory,
  UUID,
  type ImageRequest,
} from '../fixtures/ext4-image.ts';
import { createBlockFile, TreeMaker, type NodeSpec } from '../fixtures/tree-maker.ts';

const MINIMAL: NodeSpec = { children: {} };
const SMALL: NodeSpec = {
  children: {
    etc: { children: { passwd: { content: Buffer.from('root:x:0:0\n') } } },
    bin: { kind: 'symlink', target: 'usr/bin' },
    big: { content: Buffer.alloc(300_000, 'b'), xattrs: { 'user.note': Buffer.alloc(300, 1) } },
  },
};

const CLEAN: readonly (readonly [string, ImageRequest])[] = [
  ['an empty tree', { spec: MINIMAL }],
  ['an empty tree without lost+found', { spec: MINIMAL, options: { lostFound: false } }],
  ['a small tree', { spec: SMALL }],
  ['a small tree with a journal', { spec: SMALL, options: { journal: true } }],
  [
    'a small tree with room',
    { spec: SMALL, options: { size: { kind: 'min', extraBytes: 10_000_000 } } },
  ],
  ['a small tree on 64 MiB', { spec: SMALL, options: { size: { kind: 'fixed', bytes: 2 ** 26 } } }],
];

for (const [name, request] of CLEAN) {
  test(`writeExt4() makes a disk of ${name} in which e2fsck finds nothing`, async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'image');
    const { summary } = await makeImage(path, request);
    assert.equal(await e2fsckComplaint(path), undefined);
    assert.equal((await stat(path)).size, summary.sizeBytes);
  });
}

test('writeExt4() leaves nothing free with size min, and what was asked for beyond', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  const { summary } = await makeImage(path, { spec: SMALL });
  assert.equal(summary.freeBlocks, 0);
  assert.equal(summary.inodes, 512);
  const size = { kind: 'min', extraBytes: 2 ** 30 } as const;
  const { summary: larger } = await makeImage(path, { spec: SMALL, options: { size } });
  assert.equal(larger.freeBlocks, 2 ** 18);
  assert.ok(larger.freeInodes >= 2 ** 16);
});

test('writeExt4() gives the same bytes twice', async () => {
  await using directory = await temporaryDirectory();
  const [a, b] = [join(directory.path, 'a'), join(directory.path, 'b')];
  for (const path of [a, b]) await makeImage(path, { spec: SMALL, options: { journal: true } });
  assert.ok((await readFile(a)).equals(await readFile(b)));
});

test('writeExt4() does not let out what freed blocks held', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  const secret = Buffer.alloc(400 * 4096, 'SECRET');
  await makeImage(path, {
    spec: async (maker) => {
      const inode = await maker.inode({ content: secret });
      const kept = await maker.inode({ content: Buffer.from('kept') });
      maker.file.allocator.free({ start: inode.extents[1] ?? 0, count: 400 });
      return { children: { kept } };
    },
    options: { size: { kind: 'min', extraBytes: 2 ** 20 } },
  });
  assert.equal((await readFile(path)).includes('SECRET'), false);
  assert.equal(await e2fsckComplaint(path), undefined);
});

test('writeExt4() frees blocks that nobody claims and refuses those that two files claim', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  await makeImage(path, {
    spec: async (maker) => {
      await maker.inode({ content: Buffer.alloc(400 * 4096, 'FORGOTTEN') });
      return SMALL;
    },
  });
  assert.equal(await e2fsckComplaint(path), undefined);
  assert.equal((await readFile(path)).includes('FORGOTTEN'), false);
  const twice: ImageRequest = {
    spec: async (maker) => {
      const one = await maker.inode({ content: Buffer.alloc(20 * 4096, 1) });
      const other = await maker.inode({ content: Buffer.from('x') });
      const last = (one.extents[1] ?? 0) + 19;
      return { children: { one, other: Object.assign(other, { extents: [0, last, 1] }) } };
    },
  };
  await assert.rejects(makeImage(path, twice), (reason) => isBuilderdError(reason, 'internal'));
});

test('writeExt4() says how many bytes are needed when the disk is too small, and they are', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  let needed = 0;
  await assert.rejects(
    makeImage(path, { spec: SMALL, options: { size: { kind: 'fixed', bytes: 2 ** 19 } } }),
    (reason) => {
      assert.ok(isBuilderdError(reason, 'artifact.too_small'));
      needed = Number(reason.details['neededBytes']);
      return reason.message.includes(String(needed));
    },
  );
  const size = { kind: 'fixed', bytes: needed } as const;
  const { summary } = await makeImage(path, { spec: SMALL, options: { size } });
  assert.equal(summary.sizeBytes, needed);
  const tight = { kind: 'fixed', bytes: needed - 1 } as const;
  await assert.rejects(makeImage(path, { spec: SMALL, options: { size: tight } }), (reason) =>
    isBuilderdError(reason, 'artifact.too_small'),
  );
});

test('writeExt4() keeps a fixed size to the byte, even when it is no multiple of a block', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  const bytes = 10_000_512;
  await makeImage(path, { spec: SMALL, options: { size: { kind: 'fixed', bytes } } });
  assert.equal((await stat(path)).size, bytes);
  assert.equal(await e2fsckComplaint(path), undefined);
});

test('writeExt4() keeps times before 1970 and after 2106 to the nanosecond', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  const { summary } = await makeImage(path, {
    spec: {
      children: {
        first: { mtimeSec: -(2 ** 31), mtimeNsec: 1 },
        old: { mtimeSec: -1, mtimeNsec: 999_999_999 },
        late: { mtimeSec: 4_985_884_800, mtimeNsec: 123_456_789 },
        last: { mtimeSec: 2 ** 34 - 2 ** 31 - 1, mtimeNsec: 0 },
        doubted: { mtimeSec: 3 * 2 ** 32 - 2 ** 31, mtimeNsec: 5 },
      },
    },
  });
  // debugfs prints the raw fields: seconds, then nanoseconds and epoch bits.
  const want = [
    ['first', '80000000:00000004'],
    ['old', 'ffffffff:ee6b27fc'],
    ['late', '292e9080:1d6f3455'],
    ['last', '7fffffff:00000003'],
    ['doubted', '7fffffff:ee6b27fe'],
  ] as const;
  for (const [name, raw] of want) {
    assert.match(await debugfs(path, `stat /${name}`), new RegExp(`mtime: 0x${raw} `), name);
  }
  assert.equal(summary.clampedTimes, 1);
  assert.equal(await e2fsckComplaint(path), undefined);
});

test('writeExt4() gives files over four names the one inode and counts them', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  await makeImage(path, {
    spec: async (maker) => {
      const inode = await maker.inode({ content: Buffer.from('x') });
      return { children: { a: inode, b: inode, c: { children: { d: inode } } } };
    },
  });
  const shown = await Promise.all(
    ['/a', '/b', '/c/d'].map((name) => debugfs(path, `stat ${name}`)),
  );
  assert.equal(new Set(shown).size, 1);
  assert.match(shown[0] ?? '', /Links: 3 /);
});

function linked(names: number): ImageRequest {
  return {
    spec: async (maker) => {
      const inode = await maker.inode({});
      const links = Array.from({ length: names }, (_, at) => [`n${at}`, inode] as const);
      return { children: Object.fromEntries(links) };
    },
  };
}

test('writeExt4() refuses the 65,001st name of a file and takes 65,000', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  await makeImage(path, linked(65_000));
  assert.equal(await e2fsckComplaint(path), undefined);
  await assert.rejects(makeImage(path, linked(65_001)), (reason) =>
    isBuilderdError(reason, 'artifact.unrepresentable'),
  );
});

const REFUSED: readonly (readonly [string, NodeSpec])[] = [
  ['a name of 256 bytes', { children: { ['n'.repeat(256)]: {} } }],
  ['a name with a slash', { children: { 'a/b': {} } }],
  ['a name with NUL', { children: { 'a\0b': {} } }],
  ['the name ".."', { children: { '..': {} } }],
  [
    'a link target of 4,096 bytes',
    { children: { l: { kind: 'symlink', target: 't'.repeat(4096) } } },
  ],
  ['an empty link target', { children: { l: { kind: 'symlink', target: '' } } }],
  ['a device of major number 4,096', { children: { d: { kind: 'char', dev: [4096, 0] } } }],
  ['a file of 16 TiB', { children: { f: { size: 2 ** 44 } } }],
  ['attributes of two blocks', { children: { f: { xattrs: { 'user.x': Buffer.alloc(5000) } } } }],
];

for (const [name, spec] of REFUSED) {
  test(`writeExt4() refuses ${name} as unrepresentable`, async () => {
    await using directory = await temporaryDirectory();
    await assert.rejects(makeImage(join(directory.path, 'image'), { spec }), (reason) =>
      isBuilderdError(reason, 'artifact.unrepresentable'),
    );
  });
}

test('writeExt4() stops when it is cancelled', async () => {
  await using directory = await temporaryDirectory();
  await using file = await createBlockFile(join(directory.path, 'image'));
  const tree = await new TreeMaker(file).tree(SMALL);
  const options = {
    size: { kind: 'min', extraBytes: 0 },
    label: '',
    uuid: UUID,
    hashSeed: HASH_SEED,
    journal: false,
    lostFound: false,
    timestampSec: 0,
    signal: AbortSignal.abort(),
  } as const;
  await assert.rejects(writeExt4(tree, file, options), (reason) =>
    isBuilderdError(reason, 'build.cancelled'),
  );
});
