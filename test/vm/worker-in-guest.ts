import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import type { ConvertedBuild } from '../../src/builds/worker/converter.ts';
import { sha256 } from '../../src/core/digest.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { convertJob } from '../fixtures/convert-job.ts';
import { layerOf } from '../fixtures/memory-layer.ts';
import { rawEnd, rawFile } from '../fixtures/raw-tar.ts';
import { codeRootWith, converterIn } from '../fixtures/worker-program.ts';

/** Runs inside the guest of worker-cgroup.test.ts, where the cgroups are unified and ours. */
const ROOT = '/sys/fs/cgroup';
const HOG = `
import fs from 'node:fs';
const membership = fs.readFileSync('/proc/self/cgroup', 'utf8');
const event = { kind: 'notice', level: 'info', message: membership };
fs.writeSync(4, JSON.stringify({ kind: 'progress', event }) + '\\n');
const kept = [];
for (;;) kept.push(Buffer.alloc(1 << 20, 1));
`;

async function convertIn(
  name: string,
  memoryMax: number,
  program?: string,
): Promise<{
  build?: ConvertedBuild;
  fault?: unknown;
  notices: string[];
  peak: number;
  disk: Buffer;
}> {
  const directory = path.join(ROOT, name);
  mkdirSync(directory);
  writeFileSync(path.join(directory, 'memory.max'), String(memoryMax));
  await using handle = await open(directory);
  await using layer = await layerOf(Buffer.concat([rawFile('hello', { name: 'a' }), rawEnd()]));
  await using fixture = await convertJob([layer]);
  await using code = program === undefined ? undefined : await codeRootWith(program);
  const notices: string[] = [];
  const outcome = await converterIn(code?.path)
    .convert(fixture.job, {
      signal: AbortSignal.timeout(120_000),
      onProgress: (event) => void (event.kind === 'notice' && notices.push(event.message)),
      cgroup: {
        directory: handle,
        path: `/${name}`,
        wasOomKilled: async () =>
          /^oom_kill [1-9]/m.test(readFileSync(path.join(directory, 'memory.events'), 'utf8')),
      },
    })
    .then(
      (build) => ({ build }),
      (fault: unknown) => ({ fault }),
    );
  const peak = Number(readFileSync(path.join(directory, 'memory.peak'), 'utf8'));
  // Only an empty cgroup can be removed: nothing of the worker is left.
  rmdirSync(directory);
  return { ...outcome, notices, peak, disk: await fixture.read('ext4') };
}

writeFileSync(path.join(ROOT, 'cgroup.subtree_control'), '+memory');
const good = await convertIn('good', 1 << 30);
assert.equal(good.fault, undefined);
assert.equal(good.build?.charged, true);
assert.equal(good.build.isolation.cgroupPath, '/good');
assert.equal(good.build.artifacts[0]?.digest, sha256(good.disk));
// The whole of Node was charged, from its first page on.
assert.ok(good.peak > 16 << 20, `only ${good.peak} bytes were charged`);

const hog = await convertIn('hog', 256 << 20, HOG);
assert.deepEqual(hog.notices, ['0::/hog\\x0a']);
assert.ok(isBuilderdError(hog.fault, 'build.oom'), String(hog.fault));
console.log('CHARGED');
