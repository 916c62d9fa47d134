import assert from 'node:assert/strict';
import { chmod, mkdtempDisposable, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { loadAddon } from '../../native/addon.ts';
import type { Format } from '../../src/builds/request.ts';
import type { ConvertCall } from '../../src/builds/worker/converter.ts';
import { createInProcessConverter } from '../../src/builds/worker/in-process-converter.ts';
import { warmWorkerCache } from '../../src/builds/worker/warm-cache.ts';
import { createWorkerConverter } from '../../src/builds/worker/worker-converter.ts';
import { sha256 } from '../../src/core/digest.ts';
import { type BuilderdError, isBuilderdError } from '../../src/core/errors.ts';
import type { ProgressEvent } from '../../src/core/progress.ts';
import {
  DEFAULT_CONVERSION_LIMITS,
  type LayerSource,
} from '../../src/rootfs/layer/layer-source.ts';
import { convertJob, type JobFixtureOptions } from '../fixtures/convert-job.ts';
import { encodeLayer } from '../fixtures/images/encode-layer.ts';
import { METADATA_TRAPS, NAME_TRAPS } from '../fixtures/images/metadata-traps.ts';
import { LINK_TRAPS, REPLACEMENT_TRAPS, WHITEOUT_TRAPS } from '../fixtures/images/traps.ts';
import { layerOf } from '../fixtures/memory-layer.ts';
import { rawEnd, rawFile, rawHeader } from '../fixtures/raw-tar.ts';
import { converterIn, needsRoot, quietLog } from '../fixtures/worker-program.ts';

const FIXED = { clock: { now: () => new Date(1000) }, version: 'test' };
const inProcess = createInProcessConverter({
  ...FIXED,
  addon: loadAddon(),
  limits: DEFAULT_CONVERSION_LIMITS,
});

function callOf(more: Partial<ConvertCall> = {}): ConvertCall {
  return { signal: AbortSignal.timeout(60_000), onProgress: () => undefined, ...more };
}

/** Times differ between two runs; nothing else may. */
function withoutTimes(metadata: string): string {
  return metadata.replace(/"(started|finished)": "[^"]*"/g, '"$1": ""');
}

async function sameInBoth(
  layers: readonly LayerSource[],
  options: JobFixtureOptions,
): Promise<void> {
  const formats: readonly Format[] = options.formats ?? ['ext4'];
  await using ours = await convertJob(layers, options);
  await using theirs = await convertJob(layers, options);
  const want = await inProcess.convert(ours.job, callOf());
  const found = await converterIn().convert(theirs.job, callOf());
  assert.deepEqual(found.artifacts, want.artifacts);
  for (const format of formats) {
    assert.ok((await theirs.read(format)).equals(await ours.read(format)), `${format} differs`);
  }
  assert.equal(withoutTimes(found.metadataText), withoutTimes(want.metadataText));
  assert.equal(found.fidelityText, want.fidelityText);
  assert.deepEqual(found.image, want.image);
  assert.ok(found.cpuUs > 0 && found.memoryPeakBytes > 1 << 20);
  assert.equal(found.charged, false);
}

const PASSWD = rawFile('root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\n', {
  name: 'etc/passwd',
});
const BIG = Buffer.alloc(3_000_001, 'a block of text that is no zero ');

for (const formats of [['ext4'], ['tar'], ['ext4', 'tar']] as const) {
  test(`a worker writes ${formats.join(' and ')} bit for bit as this process does`, {
    skip: needsRoot,
  }, async () => {
    await using lower = await layerOf(
      Buffer.concat([PASSWD, rawFile(BIG, { name: 'srv/big' }), rawEnd()]),
    );
    await using upper = await layerOf(
      Buffer.concat([rawFile('hello', { name: 'srv/hello' }), rawEnd()]),
      { packing: 'zstd' },
    );
    await sameInBoth([lower, upper], {
      formats,
      config: { User: 'web', Env: ['HTTP_PROXY=x', 'http_proxy=y'], Cmd: ['/srv/hello'] },
      guestFiles: true,
      guestInit: Buffer.alloc(100_000, 'init'),
    });
  });
}

const TRAPS = [
  ...WHITEOUT_TRAPS,
  ...LINK_TRAPS,
  ...REPLACEMENT_TRAPS,
  ...METADATA_TRAPS,
  ...NAME_TRAPS,
]
  // All of them are equal; a process for each would take a minute.
  .filter((_, index) => index % 6 === 0);

test('a worker converts images of known traps as this process does', {
  skip: needsRoot,
}, async () => {
  assert.ok(TRAPS.length > 5);
  for (const trap of TRAPS) {
    await using stack = new AsyncDisposableStack();
    const layers: LayerSource[] = [];
    for (const layer of trap.layers) layers.push(stack.use(await layerOf(encodeLayer(layer))));
    await sameInBoth(layers, { formats: ['ext4', 'tar'] }).catch((reason: unknown) => {
      throw new Error(trap.name, { cause: reason });
    });
  }
});

test('a worker leaves out what the request names, as this process does', {
  skip: needsRoot,
}, async () => {
  await using layer = await layerOf(
    Buffer.concat([
      PASSWD,
      rawFile(BIG, { name: 'srv/big' }),
      rawFile('small', { name: 'srv/small' }),
      rawEnd(),
    ]),
  );
  const filter = {
    exclude: ['srv', 'tmp/nothing'],
    preserve: ['srv/small'],
    removeDocs: true,
    removeCache: true,
  };
  await sameInBoth([layer], { formats: ['ext4', 'tar'], filter, guestFiles: true });
  await using fixture = await convertJob([layer], { formats: ['tar'], filter });
  const { fidelityText, metadataText } = await converterIn().convert(fixture.job, callOf());
  const tar = await fixture.read('tar');
  assert.ok(tar.includes('srv/small') && !tar.includes('srv/big') && tar.length < 100_000);
  assert.match(fidelityText, /Nothing in the image matches \\"tmp\/nothing\\"/);
  assert.match(metadataText, /"preserve": \[\s+"srv\/small"/);
});

test('a worker tells a guest what the request names, as this process does', {
  skip: needsRoot,
}, async () => {
  await using layer = await layerOf(Buffer.concat([PASSWD, rawEnd()]));
  const config = { Entrypoint: ['/e'], Cmd: ['x'], Env: ['A=1', 'a=2'] };
  const runtime = { command: ['own'], env: { A: 'new' }, workingDir: '/srv' };
  const options = { config, runtime, guestFiles: true };
  await sameInBoth([layer], { formats: ['ext4', 'tar'], ...options });
  await using fixture = await convertJob([layer], { formats: ['tar'], ...options });
  const { metadataText, image } = await converterIn().convert(fixture.job, callOf());
  const tar = (await fixture.read('tar')).toString('latin1');
  assert.match(tar, /\[\s+"\/e",\s+"own"\s+\]/);
  assert.match(tar, /"working_dir": "\/srv"/);
  assert.deepEqual(JSON.parse(metadataText).env, { A: 'new', a: '2' });
  // What the build answers about the image is the image's.
  assert.deepEqual([image.command, { ...image.env }], [['x'], { A: '1', a: '2' }]);
});

test('a worker reads a layer twice from one descriptor', { skip: needsRoot }, async () => {
  // The upper layer hides the file, but the lower one has a second name for it.
  await using lower = await layerOf(
    Buffer.concat([
      rawFile(BIG, { name: 'srv/big' }),
      rawHeader({ name: 'srv/again', type: '1', linkName: 'srv/big' }),
      rawEnd(),
    ]),
  );
  await using upper = await layerOf(
    Buffer.concat([rawFile('small', { name: 'srv/big' }), rawEnd()]),
  );
  await sameInBoth([lower, upper], { formats: ['ext4'] });
  await using fixture = await convertJob([lower, upper]);
  const { fidelityText } = await converterIn().convert(fixture.job, callOf());
  assert.match(fidelityText, /"second_read"/);
});

test('a fault of the image comes out of a worker as it comes out of this process', {
  skip: needsRoot,
}, async () => {
  await using layer = await layerOf(Buffer.concat([PASSWD, rawEnd()]), { diffId: sha256('x') });
  for (const converter of [inProcess, converterIn()]) {
    await using fixture = await convertJob([layer]);
    const fault = await faultOf(converter.convert(fixture.job, callOf()));
    assert.equal(fault.code, 'source.digest_mismatch');
    assert.match(fault.message, /its unpacked bytes hash to/);
  }
});

test('a worker may not make an artifact larger than this build may have', {
  skip: needsRoot,
}, async () => {
  await using layer = await layerOf(Buffer.concat([rawFile(BIG, { name: 'big' }), rawEnd()]));
  await using fixture = await convertJob([layer], { formats: ['tar'] });
  const call = callOf({ maxArtifactBytes: 1_000_000 });
  const fault = await faultOf(converterIn().convert(fixture.job, call));
  assert.equal(fault.code, 'quota.denied');
  // What becomes a violation of the tenant.
  const { quotaType, limit, current } = fault.details;
  assert.deepEqual([quotaType, limit], ['disk', 1_000_000]);
  assert.ok(Number(current) > 1_000_000);
});

test('a worker tells its progress, each event checked', { skip: needsRoot }, async () => {
  await using layer = await layerOf(Buffer.concat([rawFile(BIG, { name: 'big' }), rawEnd()]));
  await using fixture = await convertJob([layer]);
  const events: ProgressEvent[] = [];
  const onProgress = (event: ProgressEvent): number => events.push(event);
  await converterIn().convert(fixture.job, callOf({ onProgress }));
  const phases = events.flatMap((event) =>
    event.kind === 'phase' ? [`${event.phase} ${event.state}`] : [],
  );
  assert.deepEqual(phases, ['convert started', 'convert done', 'write started', 'write done']);
  assert.deepEqual(
    events.filter((event) => event.kind === 'bytes' && event.state === 'done'),
    [
      {
        kind: 'bytes',
        phase: 'convert',
        state: 'done',
        id: layer.digest,
        doneBytes: layer.size,
        totalBytes: layer.size,
      },
    ],
  );
});

test('several workers run side by side, each with its own ids', { skip: needsRoot }, async () => {
  await using layer = await layerOf(Buffer.concat([PASSWD, rawEnd()]));
  const converter = converterIn();
  const runs = Array.from({ length: 3 }, async () => {
    await using fixture = await convertJob([layer]);
    return await converter.convert(fixture.job, callOf());
  });
  const builds = await Promise.all(runs);
  const ids = new Set(builds.map(({ isolation }) => isolation.securityContexts[0]));
  const networks = new Set(builds.map(({ isolation }) => isolation.networkNamespace));
  assert.deepEqual([ids.size, networks.size], [3, 3]);
  for (const { isolation } of builds) {
    const [, ...contexts] = isolation.securityContexts;
    const wanted = ['no_new_privs', 'capabilities=none', 'network=none', 'seccomp=filter'];
    assert.deepEqual(contexts, wanted);
  }
});

test('a worker starts from a compile cache that it can only read', {
  skip: needsRoot,
}, async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-cache-'));
  const codeRoot = path.resolve(import.meta.dirname, '../..');
  const before = process.umask(0o077);
  let cacheDir: string;
  try {
    cacheDir = await warmWorkerCache(
      { nodePath: process.execPath, codeRoot, cacheDir: path.join(dir.path, 'code') },
      { signal: AbortSignal.timeout(60_000) },
    );
  } finally {
    process.umask(before);
  }
  assert.equal((await stat(cacheDir)).mode & 0o777, 0o755);
  await using layer = await layerOf(Buffer.concat([PASSWD, rawEnd()]));
  await using fixture = await convertJob([layer]);
  const converter = createWorkerConverter({
    limits: DEFAULT_CONVERSION_LIMITS,
    version: 'test',
    log: quietLog,
    nowMs: () => performance.now(),
    cacheDir,
  });
  const { artifacts } = await converter.convert(fixture.job, callOf());
  assert.equal(artifacts[0]?.digest, sha256(await fixture.read('ext4')));
});

test('warmWorkerCache() keeps no code where others could write', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-cache-'));
  await chmod(dir.path, 0o777);
  const codeRoot = path.resolve(import.meta.dirname, '../..');
  const cacheDir = path.join(dir.path, 'code');
  const signal = AbortSignal.timeout(60_000);
  await assert.rejects(
    warmWorkerCache({ nodePath: process.execPath, codeRoot, cacheDir }, { signal }),
    {
      code: 'host.permission',
    },
  );
  await assert.rejects(stat(cacheDir), { code: 'ENOENT' });
});

test('convert() refuses ids that accounts of the host may have', { skip: needsRoot }, async () => {
  await using layer = await layerOf(Buffer.concat([PASSWD, rawEnd()]));
  for (const idBase of [0, 1000, 65_537, -65_536, 2 ** 32, Number.NaN]) {
    await using fixture = await convertJob([layer]);
    const fault = await faultOf(converterIn().convert(fixture.job, callOf({ idBase })));
    assert.equal(fault.code, 'internal');
    assert.match(fault.message, /ids from/);
  }
});

async function faultOf(work: Promise<unknown>): Promise<BuilderdError> {
  const reason: unknown = await work.then(
    () => undefined,
    (fault: unknown) => fault,
  );
  assert.ok(isBuilderdError(reason), String(reason));
  return reason;
}
