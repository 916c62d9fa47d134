import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';

/**
 * The limit of the benchmark: what a straightforward Node program needs to gunzip every layer,
 * hash the plain bytes and write them once to a file that is then synced. Nothing is parsed.
 *
 *     node limit.ts OUT LAYER.gz...
 */
/** Fastest of 64 KiB to 1 MiB: a chunk is still in the core's cache when it is hashed. */
const CHUNK_BYTES = 256 << 10;

const [out, ...layers] = process.argv.slice(2);
if (out === undefined || layers.length === 0) throw new Error('usage: limit.ts OUT LAYER.gz...');
const file = await open(out, 'w');
try {
  let position = 0;
  for (const layer of layers) {
    const hash = createHash('sha256');
    const source = createReadStream(layer, { highWaterMark: CHUNK_BYTES });
    const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
    source.on('error', (reason) => gunzip.destroy(reason));
    // zlib inflates on libuv's pool while this thread hashes what came before: both cores work.
    const plain: AsyncIterable<Buffer> = source.pipe(gunzip);
    for await (const chunk of plain) {
      hash.update(chunk);
      await file.write(chunk, 0, chunk.length, position);
      position += chunk.length;
    }
    console.log(`sha256:${hash.digest('hex')}`);
  }
  await file.sync();
} finally {
  await file.close();
}
