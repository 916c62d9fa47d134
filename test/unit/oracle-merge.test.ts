import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { kernelLayers, legalLayers } from '../fixtures/images/random-layers.ts';
import { diffTrees } from '../fixtures/oracle/diff-trees.ts';
import { mergeListing } from '../fixtures/oracle/merge-listing.ts';
import { referenceMerge } from '../fixtures/oracle/reference-merge.ts';

let scratch: string;
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'oracle-merge-'));
});
after(() => rm(scratch, { recursive: true, force: true }));

const numRuns = Number(process.env['BUILDERD_TEST_RANDOM_MERGES'] ?? 80);

for (const [what, arbitrary] of [
  ['images that containerd unpacks', kernelLayers],
  ['every legal image', legalLayers],
] as const) {
  test(`mergeLayers() agrees with the bottom-up reference on ${what}`, async () => {
    await fc.assert(
      fc.asyncProperty(arbitrary, async (layers) => {
        const { listing, implied } = referenceMerge(layers);
        const { listing: got } = await mergeListing(scratch, layers);
        assert.deepEqual(diffTrees(listing, got, { anyTime: implied }), []);
      }),
      { numRuns },
    );
  });
}
