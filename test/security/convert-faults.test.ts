import assert from 'node:assert/strict';
import { mkdtempDisposable, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { loadAddon } from '../../native/addon.ts';
import { convertImage } from '../../src/rootfs/convert.ts';
import { DEFAULT_CONVERSION_LIMITS } from '../../src/rootfs/layer/layer-source.ts';
import { layerOf } from '../fixtures/memory-layer.ts';
import { rawEnd, rawFile } from '../fixtures/raw-tar.ts';

test('a fault in one format waits for the jobs of the others and leaves no rejection behind', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-fault-'));
  await using layer = await layerOf(Buffer.concat([rawFile('x', { name: 'f' }), rawEnd()]));
  await using disk = await open(path.join(dir.path, 'disk'), 'wx+');
  await open(path.join(dir.path, 'tar'), 'wx').then((handle) => handle.close());
  await using readOnly = await open(path.join(dir.path, 'tar'), 'r');
  let syncs = 0;
  disk.sync = async () => {
    syncs++;
    throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO' });
  };
  const options = {
    size: { kind: 'min', extraBytes: 0 },
    label: '',
    journal: false,
    lostFound: false,
  } as const;
  await assert.rejects(
    convertImage({
      layers: [layer],
      outputs: [
        { format: 'ext4', handle: disk, options },
        { format: 'tar', handle: readOnly },
      ],
      openScratch: () => open(path.join(dir.path, 'scratch'), 'wx+'),
      policy: { devices: 'keep', sourceDateEpoch: undefined },
      limits: DEFAULT_CONVERSION_LIMITS,
      addon: loadAddon(),
      onProgress: () => {},
      signal: AbortSignal.timeout(10_000),
    }),
    /EBADF/,
  );
  assert.equal(syncs, 1);
  // A rejection that nobody took would fail the test before this returns.
  await new Promise((resolve) => setImmediate(resolve));
});
