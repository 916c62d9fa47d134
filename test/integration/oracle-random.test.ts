import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { encodeLayer } from '../fixtures/images/encode-layer.ts';
import { writeImageLayout } from '../fixtures/images/image-layout.ts';
import { kernelLayers, legalLayers } from '../fixtures/images/random-layers.ts';
import { assertExact, owned } from '../fixtures/oracle/assert-exact.ts';
import { diffTrees } from '../fixtures/oracle/diff-trees.ts';
import { type KernelOracle, startKernelOracle } from '../fixtures/oracle/kernel-view.ts';
import { referenceMerge } from '../fixtures/oracle/reference-merge.ts';

/** More with BUILDERD_TEST_RANDOM_IMAGES=1000. */
const numRuns = Number(process.env['BUILDERD_TEST_RANDOM_IMAGES'] ?? 25);
const PACKINGS = ['gzip', 'zstd', 'plain'] as const;

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

test('ext4 and tar of random images equal what overlayfs shows of them', async () => {
  await fc.assert(
    fc.asyncProperty(
      kernelLayers,
      fc.infiniteStream(fc.constantFrom(...PACKINGS)),
      async (layers, packings) => {
        const id = count++;
        await using image = owned(
          await writeImageLayout(join(scratch, `i${id}`), `oracle.test/random:${id}`, {
            layers: layers.map((layer) => ({
              tar: encodeLayer(layer),
              compression: packings.next().value,
            })),
          }),
        );
        const { listing, implied } = referenceMerge(layers);
        const want = await kernel.view(image);
        // The reference has to earn the right to answer for images that the kernel cannot show.
        assert.deepEqual(diffTrees(want, listing, { anyTime: implied }), [], 'the reference');
        await assertExact(scratch, image, want, implied);
      },
    ),
    { numRuns },
  );
});

test('ext4 and tar of random legal images equal an independent merge where containerd refuses', async () => {
  await fc.assert(
    fc.asyncProperty(legalLayers, async (layers) => {
      const id = count++;
      await using image = owned(
        await writeImageLayout(join(scratch, `i${id}`), `oracle.test/random:${id}`, {
          layers: layers.map((layer) => ({ tar: encodeLayer(layer) })),
        }),
      );
      const { listing, implied } = referenceMerge(layers);
      await assertExact(scratch, image, listing, implied);
    }),
    { numRuns },
  );
});
