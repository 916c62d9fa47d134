import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf } from '../../src/core/bytes.ts';
import { FILE_CAPABILITY } from '../fixtures/images/random-layers.ts';
import {
  device,
  dir,
  fifo,
  file,
  hardlink,
  type Layer,
  symlink,
  whiteout,
} from '../fixtures/images/layer-entries.ts';
import { convertLayers } from '../fixtures/oracle/convert-layers.ts';
import type { ListedEntry, Listing } from '../fixtures/oracle/listing.ts';

function at(listing: Listing, path: string): ListedEntry {
  const entry = listing.get(bytesOf(path));
  assert.ok(entry, `${path} is missing; there is ${[...listing.keys()].join(' ')}`);
  return entry;
}

const DEVICES: Layer = [
  dir('dev'),
  device('char', 'dev/null', 1, 3),
  device('char', 'dev/zero', 1, 5),
  device('char', 'dev/tty', 5, 0),
  device('char', 'dev/ptmx', 5, 2),
  device('char', 'dev/mem', 1, 1),
  device('block', 'dev/sda', 8, 0),
  device('block', 'dev/like-null', 1, 3),
  file('plain', 'x'),
];

for (const [devices, kept, dropped] of [
  ['keep', ['null', 'zero', 'tty', 'ptmx', 'mem', 'sda', 'like-null'], 0],
  ['standard', ['null', 'zero', 'tty', 'ptmx'], 3],
  ['drop', [], 7],
] as const) {
  test(`B14 the device policy ${devices} keeps ${kept.length} of seven nodes and counts the rest`, async () => {
    const policy = { devices, sourceDateEpoch: undefined };
    const { listing, noted } = await convertLayers([DEVICES], { policy });
    const want = ['', 'dev', ...kept.map((name) => `dev/${name}`), 'plain'];
    assert.deepEqual([...listing.keys()], want.toSorted());
    assert.equal(noted('device_dropped'), dropped);
  });
}

test('B14 a dropped device still replaces what a lower layer had at its name', async () => {
  const { listing } = await convertLayers([[file('a', 'x')], [device('block', 'a', 8, 0)]], {
    policy: { devices: 'drop', sourceDateEpoch: undefined },
  });
  assert.deepEqual([...listing.keys()], ['']);
});

test('B15 a fifo is recorded with its metadata and nothing opens it', async () => {
  const { listing } = await convertLayers([
    [fifo('p', { mode: 0o622, uid: 7 }), hardlink('q', 'p', { mode: 0o622, uid: 7 })],
  ]);
  assert.deepEqual([at(listing, 'p').type, at(listing, 'p').mode], ['fifo', 0o622]);
  assert.equal(at(listing, 'q').hardlinkOf, 'p');
});

test('B16 setuid, setgid and file capabilities stay in the artifact', async () => {
  const xattrs = { 'security.capability': FILE_CAPABILITY };
  const { listing } = await convertLayers([
    [
      file('su', 'x', { mode: 0o4755 }),
      file('sg', 'x', { mode: 0o2755 }),
      file('cap', 'x', { xattrs }),
    ],
  ]);
  assert.deepEqual([at(listing, 'su').mode, at(listing, 'sg').mode], [0o4755, 0o2755]);
  const value = at(listing, 'cap').xattrs.get(bytesOf('security.capability'));
  assert.equal(value, FILE_CAPABILITY.toString('hex'));
});

test("B17 overlayfs's own xattrs have no effect, do not come out, and are counted", async () => {
  const own = {
    'trusted.overlay.opaque': 'y',
    'trusted.overlay.redirect': '/etc',
    'trusted.overlay.metacopy': '',
    'user.overlay.opaque': 'y',
    'user.overlay.whiteout': '',
  };
  const { listing, noted } = await convertLayers([
    [dir('d'), file('d/lower', 'x')],
    [dir('d', { xattrs: { ...own, 'user.keep': 'v' } }), file('f', 'data', { xattrs: own })],
  ]);
  assert.equal(at(listing, 'd/lower').type, 'file');
  assert.deepEqual([...at(listing, 'd').xattrs], [['user.keep', '76']]);
  assert.deepEqual([...at(listing, 'f').xattrs], []);
  assert.equal(at(listing, 'f').size, 4);
  assert.equal(noted('overlay_xattr_dropped'), 10);
});

test('B33 owners far outside any mapped range are kept', async () => {
  const { listing } = await convertLayers([
    [file('a', 'x', { uid: 2 ** 32 - 2, gid: 2 ** 31 }), dir('d', { uid: 65_536, gid: 1_000_000 })],
  ]);
  assert.deepEqual([at(listing, 'a').uid, at(listing, 'a').gid], [4_294_967_294, 2_147_483_648]);
  assert.deepEqual([at(listing, 'd').uid, at(listing, 'd').gid], [65_536, 1_000_000]);
});

for (const name of ['.', './', '/', './/.', 'a/..']) {
  test(`B45 an entry for the root named "${name}" gives the tree's root its metadata`, async () => {
    for (const mode of [0, 0o6755, 0o1777]) {
      const { listing } = await convertLayers([
        [dir(name, { mode, uid: 3, gid: 4 }), file('f', 'x')],
        [file('g', 'x')],
      ]);
      const root = at(listing, '');
      assert.deepEqual([root.mode, root.uid, root.gid], [mode, 3, 4]);
      assert.equal(listing.size, 3);
    }
  });
}

test('B45 a root entry that is not a directory is refused', async () => {
  for (const entry of [file('./', 'x'), symlink('/', '/etc'), fifo('.'), hardlink('.', 'f')]) {
    await assert.rejects(convertLayers([[file('f'), entry]]), {
      name: 'BuilderdError',
      code: 'archive.malformed',
    });
  }
});

test('B45 a whiteout or a 0:0 device for the root is refused', async () => {
  await assert.rejects(convertLayers([[file('f')], [device('char', './', 0, 0)]]), {
    code: 'archive.malformed',
  });
});

test('B46 /dev, /proc and /sys as symlinks are kept as symlinks', async () => {
  const names = ['dev', 'proc', 'sys', 'etc', 'run'];
  const { listing } = await convertLayers([names.map((name) => symlink(name, `/host/${name}`))]);
  for (const name of names) assert.equal(at(listing, name).target, `/host/${name}`);
});

test('B47 /etc/resolv.conf and /etc/hosts as symlinks are kept and never followed', async () => {
  const { listing } = await convertLayers([
    [
      dir('etc'),
      symlink('etc/resolv.conf', '/run/systemd/resolve/stub-resolv.conf'),
      symlink('etc/hosts', '/etc/shadow'),
      symlink('etc/hostname', '../../../../proc/1/environ'),
    ],
  ]);
  assert.equal(at(listing, 'etc/resolv.conf').target, '/run/systemd/resolve/stub-resolv.conf');
  assert.equal(at(listing, 'etc/hosts').target, '/etc/shadow');
  assert.equal(listing.size, 5);
});

function manyLinks(count: number): Layer {
  const links = Array.from({ length: count - 1 }, (_, i) => hardlink(`l${i}`, 'f'));
  return [file('f', 'x'), ...links];
}

test('B48 70,000 names of one inode are refused by the limit of ext4', async () => {
  await assert.rejects(convertLayers([manyLinks(70_000)], { formats: ['ext4'] }), {
    name: 'BuilderdError',
    code: 'artifact.unrepresentable',
  });
});

test('B48 70,000 names of one inode fit into a tar', async () => {
  const { listing } = await convertLayers([manyLinks(70_000)], { formats: ['tar'] });
  assert.equal(listing.size, 70_001);
});

test('B48 names that an upper layer deletes do not count', async () => {
  const gone = Array.from({ length: 10_000 }, (_, i) => whiteout(`l${i}`));
  const { listing } = await convertLayers([manyLinks(70_000), gone]);
  assert.equal(listing.size, 60_001);
});
