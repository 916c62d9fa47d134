import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { encodeLayer } from '../fixtures/images/encode-layer.ts';
import { writeImageLayout } from '../fixtures/images/image-layout.ts';
import { kernelLayers } from '../fixtures/images/random-layers.ts';
import { diffTrees } from '../fixtures/oracle/diff-trees.ts';
import { type KernelOracle, startKernelOracle } from '../fixtures/oracle/kernel-view.ts';
import { referenceMerge } from '../fixtures/oracle/reference-merge.ts';

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

const runs = Number(process.env['BUILDERD_TEST_RANDOM_IMAGES'] ?? 15);

test('referenceMerge() gives the tree that overlayfs shows, for random images', async () => {
  let count = 0;
  await fc.assert(
    fc.asyncProperty(kernelLayers, async (layers) => {
      const dir = join(scratch, `image-${count++}`);
      const image = await writeImageLayout(dir, `oracle.test/random:${count}`, {
        layers: layers.map((layer) => ({ tar: encodeLayer(layer), compression: 'plain' as const })),
      });
      const want = await kernel.view(image);
      const { listing, implied } = referenceMerge(layers);
      assert.deepEqual(diffTrees(want, listing, { anyTime: implied }), []);
      await rm(dir, { recursive: true });
    }),
    { numRuns: runs },
  );
});
