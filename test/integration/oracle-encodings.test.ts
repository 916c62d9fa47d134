import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { linkSync, lstatSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { loadAddon } from '../../native/addon.ts';
import type { ByteString } from '../../src/core/bytes.ts';
import { encodeLayer } from '../fixtures/images/encode-layer.ts';
import { gnuTars, type GnuTarOptions, writeSparse } from '../fixtures/images/gnu-tar.ts';
import { type LayerSpec, writeImageLayout } from '../fixtures/images/image-layout.ts';
import {
  dir,
  file,
  hardlink,
  type Layer,
  symlink,
  whiteout,
} from '../fixtures/images/layer-entries.ts';
import { assertExact, owned } from '../fixtures/oracle/assert-exact.ts';
import { type KernelOracle, startKernelOracle } from '../fixtures/oracle/kernel-view.ts';
import type { ListedEntry, Listing } from '../fixtures/oracle/listing.ts';
import { mountExt4 } from '../fixtures/oracle/mounted.ts';
import { convertFixture } from '../fixtures/oracle/our-view.ts';
import { referenceMerge } from '../fixtures/oracle/reference-merge.ts';

const ROOT = '' as ByteString;
let scratch: string;
let kernel: KernelOracle;
let count = 0;
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'oracle-'));
  kernel = await startKernelOracle(scratch);
});
after(async () => {
  await kernel?.[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

async function imageOf(layers: readonly LayerSpec[], family: 'oci' | 'docker' = 'oci') {
  const id = count++;
  const name = `oracle.test/encoding:${id}`;
  return owned(await writeImageLayout(join(scratch, `i${id}`), name, { layers, family }));
}

/** What every tar format can hold. */
function fillPlain(root: string): void {
  mkdirSync(join(root, 'd'), { mode: 0o751 });
  writeFileSync(join(root, 'd/f'), 'content');
  linkSync(join(root, 'd/f'), join(root, 'd/g'));
  symlinkSync('d/f', join(root, 's'));
  writeFileSync(join(root, 'n'.repeat(90)), '');
  utimesSync(join(root, 'd/f'), 1_234_567_890, 1_234_567_890);
}

/** What needs an extension: long names, ids above 2 million, devices, sparse files. */
function fillWide(root: string): void {
  fillPlain(root);
  mkdirSync(join(root, 'p'.repeat(150)));
  writeFileSync(join(root, 'p'.repeat(150), 'q'.repeat(200)), 'long');
  symlinkSync('t'.repeat(300), join(root, 'far'));
  writeFileSync(join(root, 'owned'), 'x');
  execFileSync('chown', ['3000000:4000000000', join(root, 'owned')]);
  execFileSync('mknod', [join(root, 'dev'), 'b', '259', '70000']);
  writeSparse(join(root, 'holes'), 3_000_000, [
    [0, 'start'],
    [70_000, 'middle'],
    [1_000_001, Buffer.alloc(9000, 7)],
    [2_999_998, 'en'],
  ]);
  writeSparse(join(root, 'hole-at-end'), 500_000, [[4096, 'x']]);
  writeSparse(join(root, 'all-hole'), 1_000_000, []);
  const pieces = Array.from({ length: 60 }, (_, i) => [i * 16_384, `piece ${i}`] as const);
  writeSparse(join(root, 'many-holes'), 1_000_000, pieces);
}

const DIALECTS: readonly (readonly [string, GnuTarOptions, (dir: string) => void])[] = [
  ['5.17 a v7 tar', { format: 'v7' }, fillPlain],
  ['5.17 a ustar tar', { format: 'ustar' }, fillPlain],
  ['5.17 an old GNU tar', { format: 'oldgnu' }, fillWide],
  ['5.17 a GNU tar', { format: 'gnu' }, fillWide],
  ['5.17 a PAX tar', { format: 'posix' }, fillWide],
  ['5.16 an old GNU sparse tar', { format: 'gnu', sparse: '1.0' }, fillWide],
  ['5.16 a PAX sparse 0.0 tar', { format: 'posix', sparse: '0.0' }, fillWide],
  ['5.16 a PAX sparse 0.1 tar', { format: 'posix', sparse: '0.1' }, fillWide],
  ['5.16 a PAX sparse 1.0 tar', { format: 'posix', sparse: '1.0' }, fillWide],
];

for (const [what, options, fill] of DIALECTS) {
  test(`trap ${what} of GNU's program gives what overlayfs shows`, async () => {
    // containerd refuses old GNU sparse members; the same tree without holes answers for them.
    const isRefused = options.format === 'gnu' && options.sparse !== undefined;
    const ways = isRefused ? [options, { format: 'gnu' } as const] : [options];
    const [tar, known = tar] = await gnuTars(scratch, ways, fill);
    assert.ok(tar && known);
    await using image = await imageOf([{ tar }]);
    await using asked = await imageOf([{ tar: known }]);
    const want = await kernel.view(asked);
    await assertExact(scratch, image, withRoot(want, { mode: 0o700 }));
  });
}

/** GNU tar writes an entry for the root, which containerd ignores and we take (trap 5.10). */
function withRoot(listing: Listing, root: Partial<ListedEntry>): Listing {
  const old = listing.get(ROOT);
  assert.ok(old);
  return new Map([...listing, [ROOT, { ...old, ...root }]]);
}

test('trap 5.17 GNU long names, base-256 ids and times before 1970', async () => {
  const layer: Layer = [
    file('n'.repeat(101), '1', { uid: 2 ** 31, gid: 2 ** 32 - 2, mtime: { sec: -5, nsec: 0 } }),
    file(`${'d'.repeat(200)}/${'f'.repeat(255)}`, '2', { mtime: { sec: 2 ** 33 + 9, nsec: 0 } }),
    symlink('l', 't'.repeat(1000), { mtime: { sec: 1, nsec: 0 } }),
  ];
  await using image = await imageOf([{ tar: encodeLayer(layer, 'gnu') }]);
  const { listing, implied } = referenceMerge([layer]);
  await assertExact(scratch, image, listing, implied);
});

test('trap 5.16 runs of zeros in a plain file take no room on the disk', async () => {
  const content = Buffer.concat([
    Buffer.alloc(5000, 1),
    Buffer.alloc(4 * 2 ** 20),
    Buffer.from('end'),
  ]);
  const layer: Layer = [file('zeros', content)];
  await using image = await imageOf([{ tar: encodeLayer(layer) }]);
  await assertExact(scratch, image, referenceMerge([layer]).listing);
  await using ours = await convertFixture(scratch, image);
  await using mounted = await mountExt4(scratch, ours.ext4File);
  const { size, blocks } = lstatSync(join(mounted.dir, 'zeros'));
  assert.equal(size, content.length);
  assert.ok(blocks * 512 <= 16_384, `${blocks * 512} bytes for 5003 that are not zero`);
});

const BOTTOM: Layer = [dir('d'), file('d/a', 'a'.repeat(20_000)), file('d/b', 'b')];
const TOP: Layer = [file('d/c', 'c'), whiteout('d/b')];

for (const family of ['oci', 'docker'] as const) {
  test(`trap 5.24 gzip, zstd and plain layers under ${family} media types are one tree`, async () => {
    const layers = [BOTTOM, TOP, [file('e', 'e')]];
    const tars = layers.map((layer) => encodeLayer(layer));
    for (const order of [
      ['gzip', 'zstd', 'plain'],
      ['plain', 'gzip', 'zstd'],
    ] as const) {
      const specs = tars.map((tar, i) => ({ tar, compression: order[i] ?? ('gzip' as const) }));
      await using image = await imageOf(specs, family);
      await assertExact(scratch, image, await kernel.view(image), referenceMerge(layers).implied);
    }
  });
}

const tar = encodeLayer(BOTTOM);
const cut = 10_240;
const skippable = Buffer.from('502a4d180400000061626364', 'hex');
const PACKINGS: readonly (readonly [string, LayerSpec, 'kernel' | 'reference'])[] = [
  [
    'several gzip members',
    { tar, packed: Buffer.concat([gzipSync(tar.subarray(0, cut)), gzipSync(tar.subarray(cut))]) },
    'kernel',
  ],
  [
    'an empty gzip member between two',
    {
      tar,
      packed: Buffer.concat([
        gzipSync(tar.subarray(0, cut)),
        gzipSync(Buffer.alloc(0)),
        gzipSync(tar.subarray(cut)),
      ]),
    },
    'kernel',
  ],
  [
    'zeros after the end of gzip',
    { tar, packed: Buffer.concat([gzipSync(tar), Buffer.alloc(1000)]) },
    'reference',
  ],
  [
    'several zstd frames and a skippable one at the end',
    {
      tar,
      compression: 'zstd',
      packed: Buffer.concat([
        zstdCompressSync(tar.subarray(0, cut)),
        zstdCompressSync(tar.subarray(cut)),
        skippable,
      ]),
    },
    'kernel',
  ],
  [
    'a skippable zstd frame before each other one, as pzstd writes',
    {
      tar,
      compression: 'zstd',
      packed: Buffer.concat([
        skippable,
        zstdCompressSync(tar.subarray(0, cut)),
        skippable,
        zstdCompressSync(tar.subarray(cut)),
      ]),
    },
    'kernel',
  ],
  [
    'zeros and other bytes after the end of the archive',
    { tar: Buffer.concat([tar, Buffer.alloc(5000), Buffer.from('tail'), Buffer.alloc(700_000)]) },
    'kernel',
  ],
  ['no end blocks', { tar: tar.subarray(0, tar.length - 1024) }, 'kernel'],
];

for (const [what, spec, judge] of PACKINGS) {
  test(`trap 5.23 a layer with ${what} is read to its end`, async () => {
    await using image = await imageOf([spec]);
    const want = judge === 'kernel' ? await kernel.view(image) : referenceMerge([BOTTOM]).listing;
    await assertExact(scratch, image, want);
  });
}

test('the artifacts are the same bytes with and without the native addon', async () => {
  const layers = [BOTTOM, TOP, [hardlink('late', 'd/a'), whiteout('d/a')]];
  const packings = ['gzip', 'zstd', 'plain'] as const;
  await using image = await imageOf(
    layers.map((layer, i) => ({
      tar: encodeLayer(layer),
      compression: packings[i] ?? ('gzip' as const),
    })),
  );
  await using native = await convertFixture(scratch, image);
  await using plain = await convertFixture(scratch, image, { addon: undefined });
  assert.ok(loadAddon());
  assert.deepEqual(plain.result.artifacts, native.result.artifacts);
});
