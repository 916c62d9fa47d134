import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { encodeLayer } from '../fixtures/images/encode-layer.ts';
import { writeImageLayout } from '../fixtures/images/image-layout.ts';
import { METADATA_TRAPS, NAME_TRAPS } from '../fixtures/images/metadata-traps.ts';
import { LINK_TRAPS, REPLACEMENT_TRAPS, WHITEOUT_TRAPS } from '../fixtures/images/traps.ts';
import { assertExact, owned } from '../fixtures/oracle/assert-exact.ts';
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

const traps = [
  ...WHITEOUT_TRAPS,
  ...LINK_TRAPS,
  ...REPLACEMENT_TRAPS,
  ...METADATA_TRAPS,
  ...NAME_TRAPS,
];

traps.forEach((trap, index) => {
  test(`trap ${trap.name}`, async () => {
    await using image = owned(
      await writeImageLayout(join(scratch, `i${index}`), `oracle.test/trap:${index}`, {
        layers: trap.layers.map((layer) => ({ tar: encodeLayer(layer) })),
      }),
    );
    const { listing, implied } = referenceMerge(trap.layers);
    if (trap.judge === 'kernel') {
      const want = await kernel.view(image);
      assert.deepEqual(diffTrees(want, listing, { anyTime: implied }), [], 'the reference');
      await assertExact(scratch, image, want, implied);
    } else await assertExact(scratch, image, listing, implied);
  });
});
