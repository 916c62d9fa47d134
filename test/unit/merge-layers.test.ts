import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf } from '../../src/core/bytes.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { FidelityLog } from '../../src/rootfs/fidelity.ts';
import { LayerMerger } from '../../src/rootfs/merge/layer-merger.ts';
import type { MergeInode } from '../../src/rootfs/merge/node.ts';
import { walkTree } from '../../src/rootfs/walk.ts';
import type { TarEntry } from '../../src/tar/entry.ts';

type Line = `${'d' | 'f' | 'l' | 'h' | 'c'} ${string}`;

/** "d name", "f name size", "l name target" (symlink), "h name target" (hard link), "c name" (0:0). */
function entry(line: Line): TarEntry {
  const [kind = '', name = '', rest = ''] = line.split(' ');
  const kinds = { d: 'dir', f: 'file', l: 'symlink', h: 'hardlink', c: 'char' } as const;
  return {
    kind: kinds[kind as keyof typeof kinds],
    name: bytesOf(name),
    linkName: bytesOf(kind === 'l' || kind === 'h' ? rest : ''),
    mode: 0o751,
    uid: 7,
    gid: 8,
    size: kind === 'f' ? Number(rest === '' ? 1 : rest) : 0,
    mtime: { sec: 5, nsec: 0 },
    xattrs: [],
    devMajor: 0,
    devMinor: 0,
  };
}

/** Merges layers, bottom first, and shows the result as sorted "path kind(mode)" lines. */
function merge(...layers: Line[][]): {
  lines: string[];
  needed: number;
  notes: Record<string, number>;
  released: number;
} {
  const fidelity = new FidelityLog();
  const released: MergeInode[] = [];
  const merger = new LayerMerger({
    policy: { devices: 'keep', sourceDateEpoch: undefined },
    fidelity,
    onRelease: (inode) => released.push(inode),
  });
  for (let i = layers.length - 1; i >= 0; i--) {
    const builder = merger.beginLayer(i);
    for (const line of layers[i] ?? []) builder.apply(entry(line));
    merger.finishLayer(builder, i);
  }
  const { tree, needed } = merger.finish();
  const lines: string[] = [];
  for (const { path, node } of walkTree(tree.root)) {
    const inode = node.inode as MergeInode;
    const extra =
      inode.kind === 'file'
        ? `${inode.size}@${inode.layer}`
        : inode.kind === 'symlink'
          ? `>${inode.target}`
          : inode.mode.toString(8);
    if (path !== '') lines.push(`${path} ${extra}${inode.links > 1 ? ` x${inode.links}` : ''}`);
  }
  const notes = Object.fromEntries(fidelity.report().notes.map((note) => [note.code, note.count]));
  return { lines, needed: needed.length, notes, released: released.length };
}

const CASES: [string, Line[][], string[]][] = [
  ['an upper file hides a lower one', [['f a 1'], ['f a 2']], ['a 2@1']],
  [
    'directories merge, the upper metadata wins',
    [
      ['d d', 'f d/a'],
      ['d d', 'f d/b'],
    ],
    ['d 751', 'd/a 1@0', 'd/b 1@1'],
  ],
  [
    'a whiteout hides lower layers only, wherever it stands',
    [['f a', 'f b'], ['f .wh.a'], ['f b 3', 'f .wh.b']],
    ['b 3@2'],
  ],
  [
    'an opaque mark after its siblings keeps them',
    [
      ['d d', 'f d/old'],
      ['d d', 'f d/new', 'f d/.wh..wh..opq'],
    ],
    ['d 751', 'd/new 1@1'],
  ],
  [
    'a whiteout then a directory of that name lets the lower one through',
    [
      ['d d', 'f d/old'],
      ['f .wh.d', 'd d', 'f d/new'],
    ],
    ['d 751', 'd/new 1@1', 'd/old 1@0'],
  ],
  [
    'a directory replaces a lower file and stops the search',
    [['d x', 'f x/deep'], ['f x'], ['d x', 'f x/top']],
    ['x 751', 'x/top 1@2'],
  ],
  ['a file replaces a lower directory', [['d x', 'f x/deep'], ['f x 9']], ['x 9@1']],
  [
    "an implied parent takes the lower directory's metadata",
    [['d d'], ['f d/a']],
    ['d 751', 'd/a 1@1'],
  ],
  ['an implied parent without a lower one is 0755', [['f d/a']], ['d 755', 'd/a 1@0']],
  [
    'a parent that is a symlink in a lower layer becomes a directory',
    [['d real', 'f real/old', 'l link real'], ['f link/a']],
    ['link 751', 'link/a 1@1', 'real 751', 'real/old 1@0'],
  ],
  [
    'a parent that is a symlink in the same layer is followed',
    [['d real', 'l link real', 'f link/a']],
    ['link >real', 'real 751', 'real/a 1@0'],
  ],
  [
    'an absolute symlink stays in the tree',
    [['l a /etc', 'f a/cron 4']],
    ['a >/etc', 'etc 755', 'etc/cron 4@0'],
  ],
  ['the last of duplicate paths wins', [['f a 1', 'f a 2']], ['a 2@0']],
  [
    'hard links share an inode',
    [['f a 3', 'h b a', 'h c b']],
    ['a 3@0 x3', 'b 3@0 x3', 'c 3@0 x3'],
  ],
  ['a hard link reaches into a lower layer', [['f a 3'], ['h b a']], ['a 3@0 x2', 'b 3@0 x2']],
  [
    'a hard link outlives its target in a lower layer',
    [['f a 3'], ['h b a', 'f a 5']],
    ['a 5@1', 'b 3@0'],
  ],
  [
    'a hard link to a name whited out above still has it',
    [['f a 3'], ['h b a'], ['f .wh.a']],
    ['b 3@0'],
  ],
  [
    'a hard link to a symlink links the symlink itself',
    [['l s nowhere', 'h t s']],
    ['s >nowhere x2', 't >nowhere x2'],
  ],
  [
    'a chain of hard links through three layers ends at one inode',
    [['f a 3'], ['h b a'], ['h c b']],
    ['a 3@0 x3', 'b 3@0 x3', 'c 3@0 x3'],
  ],
  ['a device 0:0 is a whiteout', [['f a'], ['c a']], []],
  [
    'an entry below a whiteout of its own layer makes a new directory',
    [
      ['d d', 'f d/old'],
      ['f .wh.d', 'f d/new'],
    ],
    ['d 755', 'd/new 1@1'],
  ],
  [
    'nested whiteouts are allowed',
    [
      ['d d', 'f d/a', 'f d/b'],
      ['f .wh.d', 'f d/.wh.a'],
    ],
    ['d 755'],
  ],
  ['names are cleaned lexically', [['f ./a//b/../c']], ['a 755', 'a/c 1@0']],
];

for (const [name, layers, want] of CASES) {
  test(`LayerMerger: ${name}`, () => {
    assert.deepEqual(merge(...layers).lines, want);
  });
}

const REFUSED: [string, Line[][], string][] = [
  ['B1 a name that leaves the root', [['f ../x']], 'archive.path_escape'],
  ['B6 a hard link to nothing', [['h a nothing']], 'archive.bad_link'],
  ['B6 a hard link to a directory', [['d d', 'h a d']], 'archive.bad_link'],
  ['B6 a hard link to itself', [['f a', 'h a a']], 'archive.bad_link'],
  [
    'a hard link to a name that a layer in between deleted',
    [['f a'], ['f .wh.a'], ['h b a']],
    'archive.bad_link',
  ],
  ['B4 a symlink loop', [['l a b', 'l b a', 'f a/x']], 'archive.bad_link'],
  ['B9 a bare whiteout', [['f .wh.']], 'archive.malformed'],
  ['B9 a whiteout of dot dot', [['f .wh...']], 'archive.malformed'],
  ['B37 an entry below a file', [['f a', 'f a/b']], 'archive.malformed'],
];

for (const [name, layers, code] of REFUSED) {
  test(`LayerMerger refuses: ${name}`, () => {
    assert.throws(
      () => merge(...layers),
      (reason) => isBuilderdError(reason) && reason.code === code,
    );
  });
}

test('LayerMerger asks for a second read only when a visible link needs hidden data', () => {
  assert.equal(merge(['f a 3', 'h b a'], ['f a 5']).needed, 1);
  assert.equal(merge(['f a 3'], ['h b a', 'f a 5']).needed, 0);
  assert.equal(merge(['d d', 'f d/a 3', 'l s d'], ['h b s/a', 'f .wh.d']).needed, 1);
});

test('LayerMerger gives back the data of replaced files, and of kept ones that no link took', () => {
  assert.equal(merge(['f a 3', 'f a 4']).released, 1);
  assert.equal(merge(['d d', 'f d/a 3', 'f d/b 3', 'f d']).released, 2);
  assert.equal(merge(['f a 3', 'h b a', 'f a 4']).released, 0);
});

test('LayerMerger counts what is odd', () => {
  const { notes } = merge(
    ['d real', 'l link real'],
    ['f link/a', 'f a', 'f a', 'f .wh..wh.plnk', 'f .wh..wh..opq'],
  );
  assert.deepEqual(notes, {
    duplicate_path: 1,
    implied_directory: 1,
    reserved_whiteout_dropped: 1,
    root_opaque_ignored: 1,
    symlinked_parent_replaced: 1,
  });
});
