import assert from 'node:assert/strict';
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runProgram } from '../../contrib/dev/run-program.ts';
import { isDoubted } from '../../src/rootfs/ext4/inode.ts';
import type { Ext4Options } from '../../src/rootfs/ext4/writer.ts';
import type { MergedTree } from '../../src/rootfs/tree.ts';
import {
  collidingDirectory,
  e2fsckComplaint,
  makeImage,
  temporaryDirectory,
} from '../fixtures/ext4-image.ts';
import { diffTrees } from '../fixtures/oracle/diff-trees.ts';
import { listTree } from '../fixtures/oracle/list-tree.ts';
import { mountBelow, type Mounted, mountExt4 } from '../fixtures/oracle/mounted.ts';
import { Random, randomTree } from '../fixtures/random-tree.ts';
import { treeListing } from '../fixtures/tree-listing.ts';
import { directoryOf, type NodeSpec } from '../fixtures/tree-maker.ts';

const MIN = { kind: 'min', extraBytes: 0 } as const;
const ROOM = { kind: 'min', extraBytes: 2 ** 25 } as const;

/** Every inode's times within what e2fsck lets stand: the rest is clamped, and tested elsewhere. */
function withoutDoubtedTimes(spec: NodeSpec): NodeSpec {
  const children = Object.entries(spec.children ?? {}).map(
    ([name, child]) => [name, 'extents' in child ? child : withoutDoubtedTimes(child)] as const,
  );
  return {
    ...spec,
    ...(isDoubted(spec.mtimeSec ?? 0) ? { mtimeSec: 0 } : {}),
    ...(spec.children === undefined ? {} : { children: Object.fromEntries(children) }),
  };
}

async function assertShown(scratch: string, path: string, tree: MergedTree): Promise<void> {
  const want = await treeListing(tree, path);
  await using mounted = await mountExt4(scratch, path);
  assert.deepEqual(diffTrees(want, listTree(mounted.dir, { skip: ['lost+found'] })), []);
}

for (let seed = 1; seed <= 12; seed += 1) {
  test(`the kernel shows random tree ${seed} exactly as it was written`, async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'image');
    const random = new Random(seed);
    const { tree } = await makeImage(path, {
      spec: async (maker) => {
        const spec = withoutDoubtedTimes(randomTree(random, { entries: 300, hugeFiles: false }));
        const shared = await maker.inode({ content: Buffer.from('several names') });
        return { ...spec, children: { ...spec.children, one: shared, two: shared } };
      },
      options: { journal: random.pick(true, false) },
    });
    assert.equal(await e2fsckComplaint(path), undefined);
    await assertShown(directory.path, path, tree);
  });
}

test('the kernel finds every name of indexed directories, also two of one hash', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  const { tree } = await makeImage(path, {
    spec: {
      children: {
        // Listing looks every name up, so a wrong hash or a wrong leaf shows as a missing file.
        collide: { children: Object.fromEntries(collidingDirectory().map((name) => [name, {}])) },
        bytes: directoryOf(2000, (at) => `\xff\x80${at}\xe9`),
        levels: directoryOf(520 * 15, (at) => `${at}`.padEnd(255, '\xfe')),
      },
    },
  });
  await assertShown(directory.path, path, tree);
});

test('the kernel shows POSIX access lists as the archive had them', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'image');
  const access =
    '02000000' +
    '01000700ffffffff' +
    '02000600e8030000' +
    '04000500ffffffff' +
    '0800030070110100' +
    '10000700ffffffff' +
    '20000400ffffffff';
  const value = Buffer.from(access, 'hex');
  const { tree } = await makeImage(path, {
    spec: {
      children: {
        file: { mode: 0o674, xattrs: { 'system.posix_acl_access': value } },
        dir: {
          mode: 0o775,
          children: {},
          xattrs: { 'system.posix_acl_access': value, 'system.posix_acl_default': value },
        },
      },
    },
  });
  assert.equal(await e2fsckComplaint(path), undefined);
  await assertShown(directory.path, path, tree);
  await using mounted = await mountExt4(directory.path, path);
  const shown = await runProgram('getfacl', [
    '--omit-header',
    '--numeric',
    '--',
    join(mounted.dir, 'file'),
  ]);
  assert.match(shown, /user:1000:rw-\n[^]*group:70000:-wx\nmask::rwx/);
});

const WRITABLE: readonly (readonly [string, Partial<Ext4Options>])[] = [
  ['with room', { size: ROOM }],
  ['with room and a journal', { size: ROOM, journal: true }],
  ['without room', { size: MIN }],
];

for (const [name, options] of WRITABLE) {
  test(`the kernel writes to and deletes from a disk ${name} and leaves it clean`, async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'image');
    const tree = randomTree(new Random(99), { entries: 800, hugeFiles: true });
    const names = Array.from({ length: 3000 }, (_, at) => [`file-${at}`, {}] as const);
    const many = { children: Object.fromEntries(names) };
    await makeImage(path, { spec: { children: { tree, many, keep: many } }, options });
    {
      await using mounted = await mountWritable(directory.path, path);
      // Deleting first, so that the disk without room has some.
      await runProgram('rm', ['-r', '--', join(mounted.dir, 'tree')]);
      const script = 'for i in $(seq 2000); do echo $i > "$1/many/new-$i"; done; rm -r "$1/keep"';
      await runProgram('sh', ['-c', script, 'sh', mounted.dir]);
    }
    assert.equal(await e2fsckComplaint(path), undefined);
  });
}

// Growing while mounted is in the vm lane: it needs CAP_SYS_RESOURCE over the machine.
for (const journal of [false, true]) {
  const kind = journal ? 'a disk with a journal' : 'a disk';
  test(`resize2fs grows ${kind} offline into descriptor blocks that were kept`, async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'image');
    await makeImage(path, { spec: twoGroups(), options: { journal } });
    // Beyond 64 groups (8 GiB) one more descriptor block is needed.
    await truncate(path, 12 * 2 ** 30);
    await runProgram('resize2fs', [path]);
    assert.equal(await e2fsckComplaint(path), undefined);
  });
}

function twoGroups(): NodeSpec {
  return {
    children: {
      file: { blocks: 40_000 },
      text: { content: Buffer.from('x') },
      dir: { children: {} },
    },
  };
}

function mountWritable(scratch: string, path: string): Promise<Mounted> {
  return mountBelow(scratch, ['-t', 'ext4', '-o', 'loop', path]);
}
