import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { FixtureImage } from '../fixtures/images/image-layout.ts';
import { busyboxImage, debianImage, pythonImage } from '../fixtures/images/real-images.ts';
import { assertExact } from '../fixtures/oracle/assert-exact.ts';
import { type KernelOracle, startKernelOracle } from '../fixtures/oracle/kernel-view.ts';

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

const images: readonly (readonly [string, number, () => Promise<FixtureImage>])[] = [
  ['busybox', 200, () => busyboxImage(join(scratch, 'busybox'))],
  ['a Debian base', 4000, () => debianImage()],
  ['Python on Debian in many layers', 5000, () => pythonImage(join(scratch, 'python'))],
];

for (const [what, leastEntries, make] of images) {
  test(`ext4 and tar of ${what} equal what overlayfs shows`, async () => {
    const image = await make();
    const want = await kernel.view(image);
    assert.ok(want.size > leastEntries, `only ${want.size} entries`);
    const { counts } = await assertExact(scratch, image, want);
    assert.equal(counts.entries, want.size - 1);
  });
}
