import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { cacheKey, cached, cacheRoot } from '../../contrib/dev/cache.ts';
import { makeDebianBase } from '../../contrib/dev/debian-base.ts';
import { writeOciLayout } from '../../contrib/dev/oci-layout.ts';
import { runProgram } from '../../contrib/dev/run-program.ts';
import { openPackageSource, packTree } from './debian-tree.ts';
import { fillNastyTree } from './nasty-layer.ts';
import { fillCrowdedTree } from './crowded-tree.ts';
import { readLayout, type Layout } from './layout.ts';

export interface Fixture extends Layout {
  /** S, L, or the name of a resource fixture. */
  readonly name: string;
  readonly about: string;
}

/** Change it when a recipe below changes, so that old cache entries are not used. */
const RECIPE = '1';
const SUITE = 'bookworm';
const EPOCH = 1_767_225_600; // 2026-01-01
const TAG = 'latest';
const CONFIG = { Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['/bin/true'] };

/** One layer each, as an image with a language runtime, a compiler and sources would have. */
const LARGE_LAYERS: readonly (readonly string[])[] = [
  [
    ...['python3.11', 'libpython3.11-stdlib', 'libpython3.11-testsuite', 'python3-numpy'],
    ...['python3-scipy', 'python3-django', 'python3-sympy', 'perl-modules-5.36'],
    ...['nodejs', 'libnode108', 'npm', 'node-typescript', 'libicu72'],
  ],
  [...['libllvm14', 'gcc-12', 'g++-12', 'cpp-12'], ...['libstdc++-12-dev', 'libboost1.74-dev']],
  ['golang-1.19-src', 'python3.11-doc', 'perl-doc', 'git', 'vim-runtime', 'manpages', 'tzdata'],
];
/** Hidden by the last layer; both come with the packages above. */
const HIDDEN = {
  file: 'usr/share/man/man7/signal.7.gz',
  dir: 'usr/share/vim/vim90/tutor',
};

/** Fixture S: a Debian minbase as one layer. */
export async function smallFixture(signal: AbortSignal): Promise<Fixture> {
  const base = await makeDebianBase({ suite: SUITE, signal });
  return {
    name: 'S',
    about: `Debian ${SUITE} minbase`,
    ...(await readLayout(base.layoutDir, base.tag)),
  };
}

/** Fixture L: five layers on that base, with everything that tools lose easily in the last. */
export async function largeFixture(signal: AbortSignal): Promise<Fixture> {
  const base = await smallFixture(signal);
  const key = cacheKey(RECIPE, SUITE, base.manifestDigest, JSON.stringify([LARGE_LAYERS, HIDDEN]));
  const dir = await cachedForBench(`large-${key}`, async (staging) => {
    const tars = [join(staging, 'layer-0.tar')];
    const [baseBlob = ''] = base.layerBlobs;
    await pipeline(
      createReadStream(baseBlob),
      createGunzip(),
      createWriteStream(join(staging, 'layer-0.tar')),
    );
    const work = join(staging, 'work');
    const source = await openPackageSource(SUITE, work, signal);
    for (const packages of LARGE_LAYERS) {
      const tree = join(work, `tree-${tars.length}`);
      await mkdir(tree);
      await source.unpackInto(tree, packages);
      tars.push(await pack(tree, staging, tars.length, signal));
    }
    const nasty = join(work, 'tree-nasty');
    await fillNastyTree(nasty, HIDDEN, signal);
    tars.push(await pack(nasty, staging, tars.length, signal));
    await rm(work, { recursive: true });
    await writeLayout(staging, tars, signal);
  });
  return {
    name: 'L',
    about: 'the same base with runtimes, a compiler, sources, and odd entries',
    ...(await readLayout(dir, TAG)),
  };
}

/** `files` small files, spread evenly over `directories`; one layer, and the ready tree. */
export async function crowdedFixture(
  files: number,
  directories: number,
  signal: AbortSignal,
): Promise<Fixture> {
  const dir = await cachedForBench(`crowded-${RECIPE}-${files}-${directories}`, async (staging) => {
    const tree = join(staging, 'tree');
    await fillCrowdedTree(tree, files, directories);
    const tar = await pack(tree, staging, 0, signal);
    await rm(tree, { recursive: true });
    await writeLayout(staging, [tar], signal);
  });
  return {
    name: `${files} files in ${directories}`,
    about: `${files.toLocaleString('en')} small files in ${directories} directories`,
    ...(await readLayout(dir, TAG)),
  };
}

export interface LayerCount {
  readonly entries: number;
  readonly tarBytes: number;
}

/** What is in the layers together: entries as GNU tar lists them, bytes of plain tar. */
export async function countLayers(fixture: Layout, signal: AbortSignal): Promise<LayerCount> {
  let entries = 0;
  let tarBytes = 0;
  for (const blob of fixture.layerBlobs) {
    const listing = await runProgram(
      'tar',
      ['--list', '--gzip', '--quoting-style=escape', '-f', blob],
      {
        signal,
        env: { LC_ALL: 'C' },
      },
    );
    entries += listing.split('\n').length - 1;
    const plain: AsyncIterable<Buffer> = createReadStream(blob).pipe(createGunzip());
    for await (const chunk of plain) tarBytes += chunk.length;
  }
  return { entries, tarBytes };
}

async function cachedForBench(
  name: string,
  make: (staging: string) => Promise<void>,
): Promise<string> {
  await mkdir(join(cacheRoot(), 'bench'), { recursive: true });
  return cached(`bench/${name}`, make);
}

async function pack(
  tree: string,
  staging: string,
  index: number,
  signal: AbortSignal,
): Promise<string> {
  const tar = join(staging, `layer-${index}.tar`);
  await packTree(tree, tar, EPOCH, signal);
  return tar;
}

async function writeLayout(
  dir: string,
  layerTars: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await writeOciLayout({ dir, tag: TAG, layerTars, config: CONFIG, createdEpoch: EPOCH, signal });
  for (const tar of layerTars) await rm(tar);
}
