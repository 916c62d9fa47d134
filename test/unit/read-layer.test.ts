import assert from 'node:assert/strict';
import { test } from 'node:test';
import zlib from 'node:zlib';
import { loadAddon } from '../../native/addon.ts';
import { sha256 } from '../../src/core/digest.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { DEFAULT_CONVERSION_LIMITS } from '../../src/rootfs/layer/layer-source.ts';
import { readLayer, type ReadLayerOptions } from '../../src/rootfs/layer/read-layer.ts';
import { SlabPool } from '../../src/rootfs/layer/slab-pool.ts';
import { type LayerLies, layerOf } from '../fixtures/memory-layer.ts';

const SLAB = 8192;
const NATIVE = loadAddon();

async function read(
  plain: Buffer,
  lies: LayerLies,
  options: Partial<ReadLayerOptions> = {},
): Promise<Buffer> {
  await using layer = await layerOf(plain, lies);
  const chunks: Buffer[] = [];
  await readLayer(layer, {
    addon: NATIVE,
    slabs: new SlabPool(3, SLAB, 0),
    limits: DEFAULT_CONVERSION_LIMITS,
    plainBytesBefore: 0,
    onSlab: async (slab, length) => void chunks.push(Buffer.from(slab.subarray(0, length))),
    onBytes: () => {},
    signal: new AbortController().signal,
    ...options,
  });
  return Buffer.concat(chunks);
}

const refused = (code: string) => (reason: unknown) =>
  isBuilderdError(reason) && reason.code === code;
const SAMPLE = Buffer.from(Array.from({ length: 50_000 }, (_, i) => (i * i) % 251));

for (const [how, addon] of [
  ['the addon', NATIVE],
  ['plain Node', undefined],
] as const) {
  for (const packing of ['gzip', 'zstd', 'plain'] as const) {
    test(`readLayer() gives the plain bytes of a ${packing} layer with ${how}`, async () => {
      assert.ok((await read(SAMPLE, { packing }, { addon })).equals(SAMPLE));
      assert.equal((await read(Buffer.alloc(0), { packing: 'plain' }, { addon })).length, 0);
    });
  }

  test(`readLayer() reads several gzip members and zstd frames with ${how}`, async () => {
    const [a, b] = [SAMPLE.subarray(0, 20_001), SAMPLE.subarray(20_001)];
    const gzip = Buffer.concat([zlib.gzipSync(a), zlib.gzipSync(b)]);
    const zstd = Buffer.concat([zlib.zstdCompressSync(a), zlib.zstdCompressSync(b)]);
    assert.ok((await read(SAMPLE, { packed: gzip }, { addon })).equals(SAMPLE));
    assert.ok((await read(SAMPLE, { packing: 'zstd', packed: zstd }, { addon })).equals(SAMPLE));
  });

  test(`readLayer() refuses what does not hash as promised with ${how}`, async () => {
    const wrong = sha256('something else');
    await assert.rejects(
      read(SAMPLE, { digest: wrong }, { addon }),
      refused('source.digest_mismatch'),
    );
    await assert.rejects(
      read(SAMPLE, { diffId: wrong }, { addon }),
      refused('source.digest_mismatch'),
    );
    await assert.rejects(read(SAMPLE, { size: 5 }, { addon }), refused('source.size_mismatch'));
  });

  test(`readLayer() tells damage from a wrong digest with ${how}`, async () => {
    const packed = zlib.gzipSync(SAMPLE);
    const cut = packed.subarray(0, packed.length - 100);
    const flipped = Buffer.from(packed);
    flipped[packed.length - 6] = (flipped[packed.length - 6] ?? 0) ^ 1;
    for (const bad of [cut, flipped]) {
      await assert.rejects(read(SAMPLE, { packed: bad }, { addon }), refused('archive.malformed'));
      await assert.rejects(
        read(SAMPLE, { packed: bad, digest: sha256(packed) }, { addon }),
        refused('source.digest_mismatch'),
      );
    }
  });

  test(`B21 readLayer() stops a bomb with ${how}`, async () => {
    const zeros = Buffer.alloc(4 << 20);
    const limits = { ...DEFAULT_CONVERSION_LIMITS, bombFreeBytes: 1 << 20, maxRatio: 500 };
    let seen = 0;
    const onSlab = async (_slab: Buffer, length: number): Promise<void> => void (seen += length);
    await assert.rejects(read(zeros, {}, { addon, limits, onSlab }), refused('archive.bomb'));
    await assert.rejects(
      read(
        zeros,
        { packing: 'zstd' },
        { addon, limits: { ...limits, maxPlainBytes: 1 << 20 }, onSlab },
      ),
      refused('archive.bomb'),
    );
    assert.ok(seen < 3 << 20, `${seen} bytes went through`);
  });

  test(`readLayer() ends with the consumer's fault and gives every slab back with ${how}`, async () => {
    const slabs = new SlabPool(3, SLAB, 0);
    const fault = new Error('consumer');
    let calls = 0;
    const onSlab = async (): Promise<void> => {
      if (++calls === 2) throw fault;
    };
    await assert.rejects(read(SAMPLE, {}, { addon, slabs, onSlab }), (reason) => reason === fault);
    const all = await Promise.all([slabs.take(), slabs.take(), slabs.take()]);
    assert.equal(new Set(all).size, 3);
  });
}

test('readLayer() stops when it is cancelled', async () => {
  const controller = new AbortController();
  const onSlab = async (): Promise<void> => controller.abort();
  await assert.rejects(
    read(SAMPLE, {}, { onSlab, signal: controller.signal }),
    refused('build.cancelled'),
  );
});

test('readLayer() accepts zero padding after gzip data and refuses other bytes', async () => {
  const packed = zlib.gzipSync(SAMPLE);
  const padded = Buffer.concat([packed, Buffer.alloc(1000)]);
  assert.ok((await read(SAMPLE, { packed: padded })).equals(SAMPLE));
  const junk = Buffer.concat([packed, Buffer.from('junk')]);
  await assert.rejects(read(SAMPLE, { packed: junk }), refused('archive.malformed'));
});
