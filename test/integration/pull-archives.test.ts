import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { sha256 } from '../../src/core/digest.ts';
import { PullHarness } from '../fixtures/registry-harness.ts';
import { makeImage } from '../fixtures/registry-images.ts';
import { writeLayout } from '../fixtures/registry-layout.ts';
import { tarOf } from '../fixtures/small-tar.ts';

const run = promisify(execFile);

test('acquire() reads what skopeo writes as oci-archive and docker-archive', async () => {
  await using temp = await mkdtempDisposable(join(tmpdir(), 'builderd-skopeo-'));
  const dir = temp.path;
  const tars = ['one', 'two'].map((name) => tarOf([{ name, content: name.repeat(5000) }]));
  const image = makeImage({ layers: tars });
  await writeLayout(join(dir, 'layout'), image, 'v1');
  for (const kind of ['oci-archive', 'docker-archive'] as const) {
    const path = join(dir, `${kind}.tar`);
    await run('skopeo', [
      ...['--insecure-policy', '--tmpdir', dir, 'copy'],
      ...[`oci:${join(dir, 'layout')}:v1`, `${kind}:${path}:example.test/app:v1`],
    ]);
    await using harness = new PullHarness({ allow: '' });
    await using got = await harness.images.acquire(
      { kind, path, tag: 'v1' },
      {
        platform: { os: 'linux', architecture: 'amd64' },
        pullPolicy: 'missing',
        signal: AbortSignal.timeout(30_000),
        onProgress: () => undefined,
      },
    );
    assert.deepEqual(
      got.layers.map((layer) => layer.diffId),
      tars.map((tar) => sha256(tar)),
    );
    for (const layer of got.layers) {
      await using handle = await layer.open(AbortSignal.timeout(60_000));
      assert.equal(sha256(await handle.readFile()), layer.digest);
    }
  }
});
