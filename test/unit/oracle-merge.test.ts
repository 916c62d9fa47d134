import assert from 'node:assert/strict';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { loadAddon } from '../../native/addon.ts';
import { FidelityLog } from '../../src/rootfs/fidelity.ts';
import { DEFAULT_CONVERSION_LIMITS } from '../../src/rootfs/layer/layer-source.ts';
import { mergeLayers } from '../../src/rootfs/merge-layers.ts';
import { FileBlockAllocator } from '../../src/rootfs/store/block-allocator.ts';
import { encodeLayer } from '../fixtures/images/encode-layer.ts';
import { writeImageLayout } from '../fixtures/images/image-layout.ts';
import type { Layer } from '../fixtures/images/layer-entries.ts';
import { kernelLayers, legalLayers } from '../fixtures/images/random-layers.ts';
import { diffTrees } from '../fixtures/oracle/diff-trees.ts';
import type { Listing } from '../fixtures/oracle/listing.ts';
import { listMergedTree, readExtents } from '../fixtures/oracle/merged-view.ts';
import { referenceMerge } from '../fixtures/oracle/reference-merge.ts';

let scratch: string;
let count = 0;
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'oracle-merge-'));
});
after(() => rm(scratch, { recursive: true, force: true }));

const numRuns = Number(process.env['BUILDERD_TEST_RANDOM_MERGES'] ?? 80);

async function mergedListing(layers: readonly Layer[]): Promise<Listing> {
  const dir = join(scratch, String(count++));
  const image = await writeImageLayout(dir, 'oracle.test/merge:1', {
    layers: layers.map((layer) => ({ tar: encodeLayer(layer), compression: 'plain' as const })),
  });
  const handle = await open(join(dir, 'store'), 'w+');
  try {
    const { tree } = await mergeLayers(image.layers, {
      file: { handle, allocator: new FileBlockAllocator({ limit: 2 ** 20 }) },
      addon: loadAddon(),
      policy: { devices: 'keep', sourceDateEpoch: undefined },
      limits: DEFAULT_CONVERSION_LIMITS,
      fidelity: new FidelityLog(),
      onProgress: () => undefined,
      signal: AbortSignal.timeout(30_000),
    });
    return await listMergedTree(tree, (inode) => readExtents(inode, handle));
  } finally {
    await handle.close();
    await rm(dir, { recursive: true });
  }
}

for (const [what, arbitrary] of [
  ['images that containerd unpacks', kernelLayers],
  ['every legal image', legalLayers],
] as const) {
  test(`mergeLayers() agrees with the bottom-up reference on ${what}`, async () => {
    await fc.assert(
      fc.asyncProperty(arbitrary, async (layers) => {
        const { listing, implied } = referenceMerge(layers);
        const got = await mergedListing(layers);
        assert.deepEqual(diffTrees(listing, got, { anyTime: implied }), []);
      }),
      { numRuns },
    );
  });
}
