import assert from 'node:assert/strict';
import { closeSync, lstatSync, openSync, readSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { encodeLayer } from '../fixtures/images/encode-layer.ts';
import { gnuTars, writeSparse } from '../fixtures/images/gnu-tar.ts';
import { writeImageLayout } from '../fixtures/images/image-layout.ts';
import { dir, file, type Layer, symlink, whiteout } from '../fixtures/images/layer-entries.ts';
import { assertExact, owned } from '../fixtures/oracle/assert-exact.ts';
import { type KernelOracle, startKernelOracle } from '../fixtures/oracle/kernel-view.ts';
import { mountExt4 } from '../fixtures/oracle/mounted.ts';
import { convertFixture } from '../fixtures/oracle/our-view.ts';

let scratch: string;
let kernel: KernelOracle;
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'oracle-'));
  kernel = await startKernelOracle(scratch);
});
after(async () => {
  await kernel?.[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

test('127 layers that replace, delete and add equal what overlayfs shows', async () => {
  const layers: Layer[] = Array.from({ length: 127 }, (_, i) => [
    dir('d', { mode: 0o700 + (i % 8) }),
    file(`d/f${i}`, `layer ${i}`),
    file('d/changes', `layer ${i}`),
    ...(i > 10 ? [whiteout(`d/f${i - 10}`)] : []),
  ]);
  await using image = owned(
    await writeImageLayout(join(scratch, 'many'), 'oracle.test/large:1', {
      layers: layers.map((layer) => ({ tar: encodeLayer(layer) })),
    }),
  );
  await assertExact(scratch, image, await kernel.view(image));
});

test('a directory of 20,000 names of every length equals what overlayfs shows', async () => {
  const layer: Layer = [
    dir('big'),
    ...Array.from({ length: 20_000 }, (_, i) =>
      i % 10 === 0
        ? symlink(`big/${i}-${'s'.repeat(i % 200)}`, `${i}`)
        : file(`big/${i}-${'n'.repeat(i % 240)}`, i % 100 === 1 ? `${i}` : ''),
    ),
  ];
  await using image = owned(
    await writeImageLayout(join(scratch, 'wide'), 'oracle.test/large:2', {
      layers: [
        { tar: encodeLayer(layer) },
        { tar: encodeLayer([dir('big'), whiteout('big/7-nnnnnnn')]) },
      ],
    }),
  );
  await assertExact(scratch, image, await kernel.view(image));
});

test('a sparse file beyond 8 GiB keeps its size, its bytes and its holes on the disk', async () => {
  const size = 9 * 2 ** 30 + 5;
  const [tar] = await gnuTars(scratch, [{ format: 'posix', sparse: '1.0' }], (root) =>
    writeSparse(join(root, 'huge'), size, [
      [0, 'first'],
      [8 * 2 ** 30 + 1, 'beyond'],
      [size - 4, 'last'],
    ]),
  );
  assert.ok(tar);
  await using image = owned(
    await writeImageLayout(join(scratch, 'huge'), 'oracle.test/large:3', { layers: [{ tar }] }),
  );
  await using ours = await convertFixture(scratch, image, { formats: ['ext4'] });
  await using mounted = await mountExt4(scratch, ours.ext4File);
  const path = join(mounted.dir, 'huge');
  const stat = lstatSync(path);
  assert.equal(stat.size, size);
  assert.ok(stat.blocks * 512 < 100_000, `${stat.blocks} sectors`);
  const fd = openSync(path, 'r');
  try {
    for (const [offset, want] of [
      [0, 'first\0\0'],
      [8 * 2 ** 30, '\0beyond\0'],
      [size - 5, '\0last'],
    ] as const) {
      const got = Buffer.alloc(want.length);
      assert.equal(readSync(fd, got, 0, got.length, offset), want.length);
      assert.equal(got.toString('latin1'), want);
    }
  } finally {
    closeSync(fd);
  }
});
