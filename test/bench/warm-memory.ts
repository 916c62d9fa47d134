/**
 * Touches memory and gives it back: on many virtual machines the first touch of a page is an order
 * of magnitude slower than the second, and whoever comes first would pay for all.
 *
 *     node warm-memory.ts BYTES
 */
const CHUNK_BYTES = 64 << 20;

const held: Buffer[] = [];
for (let left = Number(process.argv[2]); left > 0; left -= CHUNK_BYTES) {
  held.push(Buffer.alloc(CHUNK_BYTES, 1));
}
console.log(`touched ${held.length * CHUNK_BYTES} bytes`);
