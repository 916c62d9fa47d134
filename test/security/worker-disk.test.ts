import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { DiskWatch } from '../../src/builds/worker/disk-watch.ts';
import { type BuilderdError, isBuilderdError } from '../../src/core/errors.ts';
import { convertJob, type JobFixture } from '../fixtures/convert-job.ts';
import { layerOf } from '../fixtures/memory-layer.ts';
import { rawEnd, rawFile } from '../fixtures/raw-tar.ts';
import { codeRootWith, converterIn, needsRoot } from '../fixtures/worker-program.ts';

const MIB = 1024 ** 2;

async function faultOf(
  { job }: JobFixture,
  maxArtifactBytes: number,
  codeRoot?: string,
): Promise<BuilderdError> {
  const reason: unknown = await converterIn(codeRoot)
    .convert(job, {
      signal: AbortSignal.timeout(120_000),
      onProgress: () => undefined,
      maxArtifactBytes,
    })
    .then(
      () => undefined,
      (fault: unknown) => fault,
    );
  assert.ok(isBuilderdError(reason), String(reason));
  return reason;
}

test('a build of two formats may use its disk once, not twice', { skip: needsRoot }, async () => {
  await using layer = await layerOf(
    Buffer.concat([rawFile(Buffer.alloc(3 * MIB, 'x'), { name: 'big' }), rawEnd()]),
  );
  await using fixture = await convertJob([layer], { formats: ['ext4', 'tar'] });
  // Each of them fits.
  const fault = await faultOf(fixture, 5 * MIB);
  assert.equal(fault.code, 'quota.denied');
  assert.match(fault.message, /of disk together, this build may use 5\.0 MiB$/);
  assert.equal(fault.details['quotaType'], 'disk');
  assert.ok(Number(fault.details['current']) > 6 * MIB);
});

test('a worker that fills its files is killed, though none is too large and it says nothing', {
  skip: needsRoot,
}, async () => {
  await using layer = await layerOf(Buffer.concat([rawFile('hello', { name: 'a' }), rawEnd()]));
  await using fixture = await convertJob([layer], { formats: ['ext4', 'tar'] });
  await using code = await codeRootWith(`
    import fs from 'node:fs';
    const input = fs.readFileSync(0);
    const job = JSON.parse(input.subarray(0, input.indexOf(10)).toString());
    for (const { fd } of job.outputs) fs.writeSync(fd, Buffer.alloc(${3 * MIB}, 'x'));
    setInterval(() => undefined, 1000);
  `);
  const fault = await faultOf(fixture, 4 * MIB, code.path);
  assert.equal(fault.code, 'quota.denied');
  const { size } = await stat(path.join(fixture.directory, 'tar'));
  assert.ok(size <= 4 * MIB);
});

test('DiskWatch counts what lies behind the end of a file, and the scratch file', async () => {
  const file = (size: number, blocks: number) => ({ stat: async () => ({ size, blocks }) });
  const used = async (files: ConstructorParameters<typeof DiskWatch>[0]): Promise<string> => {
    await using watch = new DiskWatch(files, 64 * MIB);
    return watch.check().then(
      () => 'enough',
      (reason: unknown) => (isBuilderdError(reason) ? reason.code : String(reason)),
    );
  };
  const blocks = (bytes: number): number => bytes / 512;
  // A sparse file counts whole: stored elsewhere it will be.
  assert.equal(await used({ outputs: [file(65 * MIB, 8)] }), 'quota.denied');
  assert.equal(await used({ outputs: [file(64 * MIB, blocks(65 * MIB))] }), 'enough');
  assert.equal(await used({ outputs: [file(0, blocks(100 * MIB))] }), 'quota.denied');
  const scratch = file(0, blocks(60 * MIB));
  assert.equal(await used({ outputs: [file(0, blocks(10 * MIB))], scratch }), 'enough');
  assert.equal(await used({ outputs: [file(0, blocks(40 * MIB))], scratch }), 'quota.denied');
});
