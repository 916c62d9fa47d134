import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf } from '../../src/core/bytes.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { FidelityLog } from '../../src/rootfs/fidelity.ts';
import { LayerMerger } from '../../src/rootfs/merge/layer-merger.ts';
import { lookup } from '../../src/rootfs/tree-lookup.ts';
import type { MergedTree } from '../../src/rootfs/tree.ts';
import type { TarEntry, Xattr } from '../../src/tar/entry.ts';

/**
 * Images whose merge would cost minutes or all memory, though each entry is within the limits.
 * Before it was bounded each of these took at least a minute or ended the process.
 */
const BASE = {
  linkName: bytesOf(''),
  mode: 0o751,
  uid: 7,
  gid: 8,
  size: 0,
  mtime: { sec: 5, nsec: 0 },
  xattrs: [],
  devMajor: 0,
  devMinor: 0,
} as const;

function made(kind: TarEntry['kind'], name: string, more: Partial<TarEntry> = {}): TarEntry {
  return { ...BASE, kind, name: bytesOf(name), ...more };
}

const file = (name: string): TarEntry => made('file', name);
const directory = (name: string): TarEntry => made('dir', name);
const symlink = (name: string, target: string): TarEntry =>
  made('symlink', name, { linkName: bytesOf(target) });
const hardlink = (name: string, target: string): TarEntry =>
  made('hardlink', name, { linkName: bytesOf(target) });

/** Bottom first. */
function merge(...layers: Iterable<TarEntry>[]): MergedTree {
  const merger = new LayerMerger({
    policy: { devices: 'keep', sourceDateEpoch: undefined },
    fidelity: new FidelityLog(),
    onRelease: () => {},
  });
  for (let i = layers.length - 1; i >= 0; i--) {
    const builder = merger.beginLayer(i);
    for (const entry of layers[i] ?? []) builder.apply(entry);
    merger.finishLayer(builder, i);
  }
  return merger.finish().tree;
}

function* times(count: number, make: (at: number) => TarEntry): Generator<TarEntry> {
  for (let at = 0; at < count; at++) yield make(at);
}

const isLimit = (reason: unknown): boolean => isBuilderdError(reason, 'archive.limit');
const DEEP = 'd/'.repeat(1000);

test('B40 a symlink cannot put an entry below a name that no file system can hold', () => {
  const entries = [symlink('s', 'n'.repeat(300)), file('s/f')];
  assert.throws(() => merge(entries), isLimit);
});

test('B40 a chain of symlinks cannot put an entry deeper than 1,024 levels', () => {
  const entries = [symlink('s', `t/${DEEP}`), file(`s/${DEEP}f`)];
  assert.throws(() => merge(entries), isLimit);
});

test('B41 entries whose directories are not in the archive count their directories', () => {
  const entries = times(2000, (at) => file(`${at}/${DEEP}f`));
  assert.throws(() => merge(entries), isLimit);
});

test('B4 names that pass long symlinks again and again are refused before they cost minutes', () => {
  const target = 'd/../'.repeat(800);
  const chain = Array.from({ length: 39 }, (_, at) => symlink(`s${at}`, `${target}s${at + 1}`));
  const entries = [directory('d'), directory('s39'), ...chain];
  assert.throws(() => merge([...entries, ...times(100_000, (at) => file(`s0/${at}`))]), isLimit);
});

test('B5 links into lower layers that pass long symlinks are refused before they cost minutes', () => {
  const below = [directory('d'), symlink('s', `${'d/../'.repeat(800)}d`), file('d/f')];
  assert.throws(
    () =>
      merge(
        below,
        times(100_000, (at) => hardlink(`l${at}`, 's/f')),
      ),
    isLimit,
  );
});

test('B36 deep implied directories in 127 layers take the metadata of the one that has an entry', () => {
  const implied = Array.from({ length: 125 }, (_, at) => [file(`${DEEP}${at}`)]);
  const bottom = DEEP.split('/').map((_, at, all) => directory(all.slice(0, at + 1).join('/')));
  const tree = merge(bottom.slice(0, -1), ...implied);
  const found = lookup(tree, bytesOf(`/${DEEP.slice(0, -1)}`));
  assert.equal(found.kind === 'found' && found.node.inode.mode, 0o751);
  assert.equal(found.kind === 'found' && found.node.children?.size, 125);
});

test('B36 implied directories below symlinks of a lower layer find its directories', () => {
  const names = Array.from({ length: 300 }, (_, at) => `${at}`);
  const layers = Array.from({ length: 60 }, () => [
    ...names.map((name) => symlink(`a${name}`, 'real')),
    ...names.map((name) => file(`real/${name}/x`)),
  ]);
  const top = names.flatMap((a) => names.slice(0, 100).map((b) => file(`a${a}/${b}/f`)));
  const bottom = names.map((name) => directory(`real/${name}`));
  const tree = merge(bottom, ...layers, top);
  const found = lookup(tree, bytesOf('/a299/99'));
  assert.equal(found.kind === 'found' && found.node.inode.mode, 0o751);
});

test('B5 100,000 links into the lowest of 127 layers are resolved', () => {
  const filler = Array.from({ length: 125 }, (_, at) => [file(`a/b/c/d/e/${at}`)]);
  const links = times(100_000, (at) => hardlink(`l/${at}`, 'a/b/c/d/e/target'));
  const tree = merge([file('a/b/c/d/e/target')], ...filler, links);
  const found = lookup(tree, bytesOf('/l/99999'));
  assert.equal(found.kind === 'found' && found.node.inode.links, 100_001);
});

test('B18 names of one inode cannot bring it more attributes than one inode may have', () => {
  const attribute = (at: number): Xattr[] => [
    { name: bytesOf(`user.${at}`), value: Buffer.alloc(10) },
  ];
  const more = times(100_000, (at) =>
    made('hardlink', `l${at}`, { linkName: bytesOf('f'), xattrs: attribute(at) }),
  );
  assert.throws(() => merge([file('f'), ...more]), isLimit);
});
