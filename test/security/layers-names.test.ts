import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { bytesOf } from '../../src/core/bytes.ts';
import { convertLayers } from '../fixtures/oracle/convert-layers.ts';
import type { ListedEntry, Listing } from '../fixtures/oracle/listing.ts';
import {
  dir,
  file,
  hardlink,
  type Layer,
  opaque,
  symlink,
  whiteout,
} from '../fixtures/images/layer-entries.ts';

function at(listing: Listing, path: string): ListedEntry {
  const entry = listing.get(bytesOf(path));
  assert.ok(entry, `${path} is missing; there is ${[...listing.keys()].join(' ')}`);
  return entry;
}

function paths(listing: Listing): string[] {
  return [...listing.keys()].filter((path) => path !== '');
}

async function refuses(layers: readonly Layer[], code: string): Promise<void> {
  await assert.rejects(convertLayers(layers), { name: 'BuilderdError', code });
}

for (const name of [
  '../../etc/passwd',
  '../x',
  'a/../../x',
  '..',
  '/..',
  'd/../../../x',
  './../x',
]) {
  test(`B1 the name ${name} leaves the root and is refused`, async () => {
    await refuses([[dir('d'), file(name, 'x')]], 'archive.path_escape');
  });
}

test('B1 a directory, a link and a whiteout whose name leaves the root are refused', async () => {
  await refuses([[dir('../d')]], 'archive.path_escape');
  await refuses([[file('a'), hardlink('../b', 'a')]], 'archive.path_escape');
  await refuses([[symlink('../s', 'a')]], 'archive.path_escape');
  await refuses([[whiteout('../x')]], 'archive.path_escape');
});

test('B2 an absolute name is taken below the root of the tree', async () => {
  const { listing } = await convertLayers([[file('/etc/passwd', 'x'), file('//opt//f', 'y')]]);
  assert.deepEqual(paths(listing), ['etc', 'etc/passwd', 'opt', 'opt/f']);
});

test('B3 an entry behind a symlink to /etc lands in the /etc of the tree', async () => {
  const name = `builderd-test-${process.pid}`;
  const { listing } = await convertLayers([[symlink('a', '/etc'), file(`a/cron.d/${name}`, 'x')]]);
  assert.equal(at(listing, `etc/cron.d/${name}`).type, 'file');
  assert.equal(at(listing, 'a').target, '/etc');
  assert.equal(existsSync(`/etc/cron.d/${name}`), false);
});

test('B3 a symlink that climbs above the root stays in the tree', async () => {
  const { listing } = await convertLayers([
    [dir('d'), symlink('d/up', '../../../..'), file('d/up/f', 'x')],
  ]);
  assert.deepEqual(paths(listing), ['d', 'd/up', 'f']);
});

test('B4 a symlink loop in a name is refused', async () => {
  await refuses([[symlink('a', 'b'), symlink('b', 'a'), file('a/f', 'x')]], 'archive.bad_link');
  await refuses([[symlink('a', 'a'), file('a/f', 'x')]], 'archive.bad_link');
  await refuses([[symlink('a', 'a/b'), file('a/f', 'x')]], 'archive.bad_link');
});

test('B4 a chain of 40 symlinks is followed and one of 41 is refused', async () => {
  const chain = (hops: number): Layer => [
    dir('s0'),
    ...Array.from({ length: hops }, (_, i) => symlink(`s${i + 1}`, `s${i}`)),
    file(`s${hops}/f`, 'x'),
  ];
  const { listing } = await convertLayers([chain(40)]);
  assert.equal(at(listing, 's0/f').type, 'file');
  await refuses([chain(41)], 'archive.bad_link');
});

test('B4 symlinks that fan out exponentially are refused in bounded time', async () => {
  const layer = [
    symlink('x0', '.'),
    ...Array.from({ length: 60 }, (_, i) => symlink(`x${i + 1}`, `x${i}/x${i}`)),
    file('x60/f', 'x'),
  ];
  await refuses([layer], 'archive.bad_link');
});

test('B5 a hard link to an absolute or climbing path is resolved in the tree', async () => {
  const { listing } = await convertLayers([
    [
      file('etc/shadow', 'of the image'),
      dir('d'),
      hardlink('a', '/etc/shadow'),
      hardlink('d/b', '../../../etc/shadow'),
      symlink('via', '/etc'),
      hardlink('c', 'via/shadow'),
    ],
  ]);
  for (const name of ['a', 'd/b', 'c', 'etc/shadow']) {
    assert.equal(at(listing, name).hardlinkOf, 'a');
    assert.equal(at(listing, name).sha256, at(listing, 'etc/shadow').sha256);
  }
});

test('B5 a hard link to a file that only the host has is refused', async () => {
  assert.ok(existsSync('/etc/shadow'));
  await refuses([[hardlink('a', '/etc/shadow')]], 'archive.bad_link');
  await refuses([[hardlink('a', '../../../../etc/shadow')]], 'archive.bad_link');
  await refuses([[symlink('etc', '/etc'), hardlink('a', 'etc/shadow')]], 'archive.bad_link');
});

const BAD_LINKS: readonly (readonly [string, readonly Layer[]])[] = [
  ['that is missing', [[hardlink('a', 'nothing')]]],
  ['that is a directory', [[dir('d'), hardlink('a', 'd')]]],
  ['that is a directory of a lower layer', [[dir('d')], [hardlink('a', 'd')]]],
  ['that is the root', [[hardlink('a', '/')], [file('x')]]],
  ['that is the link itself', [[hardlink('a', 'a')]]],
  ['that is the link itself, over a lower file', [[file('a')], [hardlink('a', 'a')]]],
  ['that comes later', [[hardlink('a', 'b'), file('b', 'x')]]],
  ['that the same layer deletes', [[file('b', 'x')], [whiteout('b'), hardlink('a', 'b')]]],
  ['that a lower layer deleted', [[file('b', 'x')], [whiteout('b')], [hardlink('a', 'b')]]],
  [
    'in an opaque directory that hides it',
    [[file('d/b', 'x')], [dir('d'), opaque('d')], [hardlink('a', 'd/b')]],
  ],
  ['below a file', [[file('f', 'x'), hardlink('a', 'f/b')]]],
  ['that links back, over two layers', [[file('x')], [hardlink('a', 'b'), hardlink('b', 'a')]]],
];

for (const [what, layers] of BAD_LINKS) {
  test(`B6 a hard link to a target ${what} is refused`, async () => {
    await refuses(layers, 'archive.bad_link');
  });
}

test('B7 a directory over a symlink replaces the symlink and leaves its target alone', async () => {
  const real = dir('real', { mode: 0o700, uid: 1 });
  const { listing } = await convertLayers([
    [real, symlink('a', 'real'), symlink('b', 'real')],
    [dir('a', { mode: 0o777, uid: 2 })],
  ]);
  assert.deepEqual([at(listing, 'a').type, at(listing, 'a').mode], ['dir', 0o777]);
  assert.deepEqual([at(listing, 'real').mode, at(listing, 'real').uid], [0o700, 1]);
  const same = await convertLayers([[real, symlink('a', 'real'), dir('a', { mode: 0o777 })]]);
  assert.equal(at(same.listing, 'a').type, 'dir');
  assert.equal(at(same.listing, 'real').mode, 0o700);
});

test('B8 a file over a directory and a directory over a file replace what was there', async () => {
  const bottom = [dir('d'), file('d/x', '1'), dir('d/s'), file('d/s/y', '2'), file('f', '3')];
  const top = [file('d', 'file'), dir('f'), file('f/z', '4')];
  for (const layers of [[bottom, top], [[...bottom, ...top]]]) {
    const { listing } = await convertLayers(layers);
    assert.deepEqual(paths(listing), ['d', 'f', 'f/z']);
    assert.equal(at(listing, 'd').type, 'file');
  }
});

for (const name of [
  '.wh.',
  '.wh..',
  '.wh...',
  'd/.wh.',
  'd/.wh..',
  'd/.wh...',
  '.wh.a/b',
  'd/.wh.a/b/c',
]) {
  test(`B9 the whiteout name ${name} is refused`, async () => {
    await refuses([[dir('d'), file('d/x')], [file(name)]], 'archive.malformed');
  });
}

test('B10 a whiteout does not hide a path of its own layer, before or after it', async () => {
  for (const layer of [
    [whiteout('a'), file('a', 'new')],
    [file('a', 'new'), whiteout('a')],
  ]) {
    const { listing, noted } = await convertLayers([[file('a', 'the old one')], layer]);
    assert.equal(at(listing, 'a').size, 3);
    assert.equal(noted('whiteout_with_same_name'), layer[0]?.name === 'a' ? 1 : 0);
  }
});

test('B11 an opaque marker means the same before, between and after siblings', async () => {
  const siblings = [file('d/a', '1'), file('d/b', '2')];
  for (let i = 0; i <= siblings.length; i++) {
    const layer = [dir('d'), ...siblings.slice(0, i), opaque('d'), ...siblings.slice(i)];
    const { listing } = await convertLayers([[dir('d'), file('d/a'), file('d/old')], layer]);
    assert.deepEqual(paths(listing), ['d', 'd/a', 'd/b']);
  }
});

test('B12 a whiteout through a symlink deletes inside the tree only', async () => {
  const { listing } = await convertLayers([
    [dir('etc'), file('etc/passwd', 'image'), file('etc/group', 'image')],
    [symlink('link', '/etc'), whiteout('link/passwd')],
  ]);
  assert.deepEqual(paths(listing), ['etc', 'etc/group', 'link']);
  assert.ok(existsSync('/etc/passwd'));
});

test('B12 a whiteout through a symlink of a lower layer does not reach its target', async () => {
  const { listing } = await convertLayers([
    [dir('etc'), file('etc/passwd', 'image'), symlink('link', '/etc')],
    [whiteout('link/passwd')],
  ]);
  assert.equal(at(listing, 'etc/passwd').type, 'file');
  assert.equal(at(listing, 'link').type, 'dir');
});

test('B34 of a path that comes twice in a layer the last entry wins, and it is counted', async () => {
  const { listing, noted } = await convertLayers([
    [
      symlink('a', '/etc/passwd'),
      file('a', 'plain'),
      file('b', '1'),
      symlink('b', 'x'),
      file('c', '1'),
      file('c', '22'),
    ],
  ]);
  assert.deepEqual(
    [at(listing, 'a').type, at(listing, 'b').type, at(listing, 'c').size],
    ['file', 'symlink', 2],
  );
  assert.equal(noted('duplicate_path'), 3);
});

test('B35 names that differ in case or Unicode form only are different files', async () => {
  const names = ['File', 'file', 'FILE', '\u00e9', 'e\u0301', '\u212b', '\u00c5', 'ß', 'SS'];
  const { listing } = await convertLayers([names.map((name) => file(name, name))]);
  assert.equal(listing.size, names.length + 1);
});

function owner({ mode, uid, gid }: ListedEntry): number[] {
  return [mode, uid, gid];
}

test('B36 a missing parent is made 0755 root:root, or takes after the lower directory', async () => {
  const { listing, noted } = await convertLayers([
    [dir('old', { mode: 0o700, uid: 5, gid: 6 })],
    [file('old/f', '1'), file('new/sub/f', '2')],
  ]);
  assert.deepEqual(owner(at(listing, 'old')), [0o700, 5, 6]);
  assert.deepEqual(owner(at(listing, 'new')), [0o755, 0, 0]);
  assert.deepEqual(owner(at(listing, 'new/sub')), [0o755, 0, 0]);
  assert.equal(at(listing, 'new').mtimeNs, 0n);
  assert.equal(noted('implied_directory'), 3);
});

test('B37 an entry below a file, fifo or device of its own layer is refused', async () => {
  await refuses([[file('a', 'x'), file('a/b', 'y')]], 'archive.malformed');
  await refuses([[file('a', 'x'), dir('a/b')]], 'archive.malformed');
  await refuses([[file('a', 'x'), file('b'), hardlink('a/b', 'b')]], 'archive.malformed');
  await refuses([[file('a', 'x'), whiteout('a/b')]], 'archive.malformed');
  await refuses([[file('a', 'x'), symlink('l', 'a'), file('l/b')]], 'archive.malformed');
});

test('B37 an entry below a file of a lower layer makes a directory of it', async () => {
  const { listing } = await convertLayers([[file('a', 'x')], [file('a/b', 'y')]]);
  assert.deepEqual(paths(listing), ['a', 'a/b']);
});
