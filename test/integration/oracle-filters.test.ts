import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import type { ByteString } from '../../src/core/bytes.ts';
import type { FilterSpec } from '../../src/rootfs/filter/filter-spec.ts';
import { encodeLayer } from '../fixtures/images/encode-layer.ts';
import { type FixtureImage, writeImageLayout } from '../fixtures/images/image-layout.ts';
import { kernelLayers } from '../fixtures/images/random-layers.ts';
import { arbitraryPatterns } from '../fixtures/images/random-patterns.ts';
import { debianImage, pythonImage } from '../fixtures/images/real-images.ts';
import { assertExact, owned } from '../fixtures/oracle/assert-exact.ts';
import { filterListing, keepOnly } from '../fixtures/oracle/filtered-listing.ts';
import { type KernelOracle, startKernelOracle } from '../fixtures/oracle/kernel-view.ts';
import type { ListedEntry, Listing } from '../fixtures/oracle/listing.ts';
import { convertFixture } from '../fixtures/oracle/our-view.ts';
import { referenceMerge } from '../fixtures/oracle/reference-merge.ts';

/** More with BUILDERD_TEST_RANDOM_IMAGES=1000. */
const numRuns = Number(process.env['BUILDERD_TEST_RANDOM_IMAGES'] ?? 15);
const NONE: FilterSpec = { exclude: [], preserve: [], removeDocs: false, removeCache: false };

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

test('ext4 and tar of random filtered images are what overlayfs shows, without the names', async () => {
  await fc.assert(
    fc.asyncProperty(kernelLayers, arbitraryPatterns, async (layers, patterns) => {
      const id = count++;
      await using image = owned(
        await writeImageLayout(join(scratch, `i${id}`), `oracle.test/filtered:${id}`, {
          layers: layers.map((layer) => ({ tar: encodeLayer(layer) })),
        }),
      );
      const want = filterListing(await kernel.view(image), patterns);
      const { implied } = referenceMerge(layers);
      const { counts } = await assertExact(scratch, image, want, implied, {
        filter: { ...NONE, ...patterns },
      });
      assert.equal(counts.entries, want.size - 1);
    }),
    { numRuns },
  );
});

/** As a person would clean up by hand, in other words than the product's. */
function withoutDocs(listing: Listing): Listing {
  return keepUpwards(listing, (path, { type }) => {
    const doc = /^usr\/(?:local\/)?share\/doc\/(.+)$/.exec(path)?.[1];
    if (doc !== undefined) {
      const licence =
        /(?:^|\/)(?:[Cc]opyright(?:\..*)?|(?:LICEN[SC]E|[Ll]icen[sc]e|COPYING|COPYRIGHT|NOTICE)[^/]*)(?:$|\/)/;
      return licence.test(doc) || (type === 'symlink' && !doc.includes('/'));
    }
    const man = /^usr\/(?:local\/)?share\/man\/(.+)$/.exec(path)?.[1];
    if (man !== undefined) return type === 'dir' && /^man.$/.test(man);
    return !/^usr\/(?:(?:local\/)?share\/info|share\/(?:doc-base|gtk-doc|help))\/./.test(path);
  });
}

function withoutCaches(listing: Listing): Listing {
  return keepUpwards(listing, (path, { type }) => {
    if (path.startsWith('var/cache/')) return type === 'dir';
    return !/^(?:tmp|var\/tmp|var\/lib\/apt\/lists)\/./.test(path);
  });
}

/** Keeps what stays for itself, and the directories above it. */
function keepUpwards(
  listing: Listing,
  staysItself: (path: ByteString, entry: ListedEntry) => boolean,
): Listing {
  const stays = new Set<string>(['']);
  for (const [path, entry] of listing) {
    if (!staysItself(path, entry)) continue;
    for (let up: string = path; up !== ''; up = up.slice(0, Math.max(0, up.lastIndexOf('/'))))
      stays.add(up);
  }
  return keepOnly(listing, (path) => stays.has(path));
}

const images: readonly (readonly [string, number, () => Promise<FixtureImage>])[] = [
  ['a Debian base', 50, () => debianImage()],
  // Its last layer deletes most of usr/share/doc.
  ['Python on Debian in many layers', 0, () => pythonImage(join(scratch, 'python'))],
];
for (const [what, leastLicences, make] of images) {
  test(`${what} without documentation and caches keeps its licences, and is smaller`, async () => {
    const image = await make();
    const whole = await kernel.view(image);
    const want = withoutCaches(withoutDocs(whole));
    const licences = [...want.keys()].filter((path) => path.endsWith('/copyright'));
    assert.ok(want.size < whole.size - 10, `${whole.size - want.size} entries go`);
    assert.ok(licences.length >= leastLicences, `${licences.length} licences stay`);
    const filter = { ...NONE, removeDocs: true, removeCache: true };
    const filtered = await assertExact(scratch, image, want, undefined, { filter });
    const note = filtered.fidelity.notes.find(({ code }) => code === 'excluded');
    assert.equal(note?.count, whole.size - want.size);

    await using unfiltered = await convertFixture(scratch, image);
    for (const [index, { sizeBytes }] of unfiltered.result.artifacts.entries()) {
      const smaller = filtered.artifacts[index]?.sizeBytes ?? Infinity;
      assert.ok(smaller < sizeBytes, `${smaller} bytes of ${sizeBytes}`);
    }
  });
}

test('patterns can say what stays instead of what goes', async () => {
  const image = await debianImage();
  const patterns = { exclude: ['**'], preserve: ['etc/passwd', 'usr/lib/**/libc.so.6', 'bin'] };
  const want = filterListing(await kernel.view(image), patterns);
  assert.ok(want.size > 5 && want.size < 20, `${want.size} entries`);
  await assertExact(scratch, image, want, undefined, { filter: { ...NONE, ...patterns } });
});
