import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { Decrypter, Encrypter } from 'age-encryption';
import fc from 'fast-check';
import { makeAgeHeader, openAgeHeader } from '../../src/store/artifacts/age-header.ts';
import { openPayload, sealPayload } from '../../src/store/artifacts/age-payload.ts';
import {
  PLAIN_PIECE,
  payloadBytes,
  pieceCount,
  pieceNonce,
  spanOf,
  STORED_PIECE,
} from '../../src/store/artifacts/age-pieces.ts';
import type { PieceSource } from '../../src/store/artifacts/piece-stream.ts';
import { newTenantKey } from '../fixtures/tenant-keys.ts';

function sourceOf(bytes: Buffer, chunkBytes: number): PieceSource {
  let at = 0;
  return {
    close: async () => undefined,
    async next() {
      if (at >= bytes.length) return undefined;
      at += chunkBytes;
      return bytes.subarray(at - chunkBytes, at);
    },
  };
}

async function collect(source: PieceSource): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (let piece = await source.next(); piece !== undefined; piece = await source.next()) {
    assert.ok(piece.length > 0, 'a piece is never empty');
    // Its memory may be used again.
    pieces.push(Buffer.from(piece));
  }
  return Buffer.concat(pieces);
}

const KEY = randomBytes(32);
const sealed = (bytes: Buffer, chunkBytes = 1 << 18): Promise<Buffer> =>
  collect(sealPayload(sourceOf(bytes, chunkBytes), bytes.length, KEY));

function opened(
  payload: Buffer,
  sizeBytes: number,
  range = { start: 0, end: sizeBytes - 1 },
  chunkBytes = 1 << 18,
): Promise<Buffer> {
  const span = spanOf(range, sizeBytes);
  const stored = payload.subarray(span.stored.start, span.stored.end + 1);
  return collect(openPayload(sourceOf(stored, chunkBytes), span, { key: KEY, sizeBytes }));
}

/** Sizes at which an off-by-one would show. */
const edgeSize = fc
  .tuple(fc.nat({ max: 4 }), fc.integer({ min: -2, max: 2 }))
  .map(([pieces, off]) => Math.max(0, pieces * PLAIN_PIECE + off));

test('spanOf() covers the range with the fewest pieces and stays inside the payload', () => {
  const size = fc.oneof(edgeSize, fc.nat({ max: 2 ** 48 }));
  fc.assert(
    fc.property(size, fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(), (length, at, more) => {
      fc.pre(length > 0);
      const start = Math.min(length - 1, Math.floor(at * length));
      const end = Math.min(length - 1, start + more);
      const span = spanOf({ start, end }, length);
      assert.ok(span.first * PLAIN_PIECE <= start && start < (span.first + 1) * PLAIN_PIECE);
      assert.ok(span.last * PLAIN_PIECE <= end && end < (span.last + 1) * PLAIN_PIECE);
      assert.equal(span.stored.start, span.first * STORED_PIECE);
      assert.ok(span.stored.end < payloadBytes(length));
      assert.equal(
        span.stored.end === payloadBytes(length) - 1,
        span.last === pieceCount(length) - 1,
      );
      assert.equal(span.first * PLAIN_PIECE + span.skip, start);
      assert.equal(span.length, end - start + 1);
    }),
  );
});

test('pieceNonce() counts big-endian in 11 bytes and marks the last piece', () => {
  assert.equal(pieceNonce(0, false).toString('hex'), '000000000000000000000000');
  assert.equal(pieceNonce(1, true).toString('hex'), '000000000000000000000101');
  assert.equal(pieceNonce(2 ** 40 + 258, false).toString('hex'), '000000000001000000010200');
});

test('openPayload() gives any range of what sealPayload() sealed, in any chunks', async () => {
  await fc.assert(
    fc.asyncProperty(
      edgeSize,
      fc.integer({ min: 1000, max: 300_000 }),
      fc.integer({ min: 1000, max: 300_000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.nat({ max: 3 * PLAIN_PIECE }),
      async (length, sealChunk, openChunk, at, more) => {
        const bytes = randomBytes(length);
        const payload = await sealed(bytes, sealChunk);
        assert.equal(payload.length, payloadBytes(length));
        assert.ok((await opened(payload, length, undefined, openChunk)).equals(bytes));
        if (length === 0) return;
        const start = Math.min(length - 1, Math.floor(at * length));
        const end = Math.min(length - 1, start + more);
        const part = await opened(payload, length, { start, end }, openChunk);
        assert.ok(part.equals(bytes.subarray(start, end + 1)), `${start}-${end} of ${length}`);
      },
    ),
    { numRuns: 60 },
  );
});

test('openPayload() refuses what was changed, cut, moved, exchanged or added', async () => {
  const size = 3 * PLAIN_PIECE + 1000;
  const bytes = randomBytes(size);
  const payload = await sealed(bytes);
  const piece = (n: number): Buffer => payload.subarray(n * STORED_PIECE, (n + 1) * STORED_PIECE);
  const other = await collect(sealPayload(sourceOf(bytes, 1 << 18), size, randomBytes(32)));
  const whole = { start: 0, end: size - 1 };
  const damaged: readonly (readonly [string, Buffer])[] = [
    ['moved', Buffer.concat([piece(1), piece(0), piece(2), piece(3)])],
    ['repeated', Buffer.concat([piece(0), piece(0), piece(2), piece(3)])],
    ['cut at a piece', Buffer.concat([piece(0), piece(1), piece(2)])],
    ['cut in a piece', payload.subarray(0, -1)],
    ['without its tag', payload.subarray(0, 3 * STORED_PIECE + 10)],
    ['empty', Buffer.alloc(0)],
    ['longer', Buffer.concat([payload, Buffer.alloc(1)])],
    ['of another key', other],
  ];
  for (const [name, wrong] of damaged) {
    const span = spanOf(whole, size);
    const reading = collect(
      openPayload(sourceOf(wrong, 1 << 18), span, { key: KEY, sizeBytes: size }),
    );
    await assert.rejects(reading, { code: 'artifact.corrupt' }, name);
  }
  // The first piece of a longer file is no last piece of a shorter one.
  await assert.rejects(opened(piece(0), PLAIN_PIECE), { code: 'artifact.corrupt' });
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: payload.length - 1 }), fc.nat({ max: 7 }), async (at, bit) => {
      const flipped = Buffer.from(payload);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
      await assert.rejects(opened(flipped, size), { code: 'artifact.corrupt' });
    }),
    { numRuns: 40 },
  );
});

test('sealPayload() refuses a source of another size than was promised', async () => {
  for (const promised of [0, 99, 101, PLAIN_PIECE, PLAIN_PIECE + 1, 3 * PLAIN_PIECE]) {
    const sealing = sealPayload(sourceOf(randomBytes(100), 64), promised, KEY);
    await assert.rejects(collect(sealing), { code: 'artifact.corrupt' }, String(promised));
  }
});

test('an age library reads what we write, and we read what it writes', async () => {
  const { identity, recipient } = await newTenantKey();
  for (const length of [0, 1, PLAIN_PIECE - 1, PLAIN_PIECE, PLAIN_PIECE + 1, 200_000]) {
    const bytes = randomBytes(length);
    const header = await makeAgeHeader(recipient);
    assert.equal(header.bytes.length, header.length);
    const payload = await collect(sealPayload(sourceOf(bytes, 1 << 18), length, header.payloadKey));
    const decrypter = new Decrypter();
    decrypter.addIdentity(identity);
    const file = Buffer.concat([header.bytes, payload]);
    assert.ok(Buffer.from(await decrypter.decrypt(file)).equals(bytes));

    const encrypter = new Encrypter();
    encrypter.addRecipient(recipient);
    const theirs = Buffer.from(await encrypter.encrypt(bytes));
    const found = await openAgeHeader(theirs.subarray(0, 1024), identity);
    const span = spanOf({ start: 0, end: length - 1 }, length);
    const stored = sourceOf(theirs.subarray(found.length), 1 << 18);
    const plain = await collect(
      openPayload(stored, span, { key: found.payloadKey, sizeBytes: length }),
    );
    assert.ok(plain.equals(bytes));
  }
});

test('openAgeHeader() refuses another key, a changed header and what is no header', async () => {
  const mine = await newTenantKey();
  const { bytes } = await makeAgeHeader(mine.recipient);
  const wrong = { code: 'artifact.corrupt' };
  await assert.rejects(openAgeHeader(bytes, (await newTenantKey()).identity), wrong);
  for (let at = 0; at < bytes.length - 16; at += 7) {
    const flipped = Buffer.from(bytes);
    flipped[at] = (flipped[at] ?? 0) ^ 1;
    await assert.rejects(openAgeHeader(flipped, mine.identity), wrong, `byte ${at}`);
  }
  await assert.rejects(openAgeHeader(Buffer.alloc(0), mine.identity), wrong);
  await assert.rejects(openAgeHeader(bytes.subarray(0, -1), mine.identity), wrong);
  await assert.rejects(openAgeHeader(Buffer.alloc(1024, 'a'), mine.identity), wrong);
  const endless = Buffer.concat([
    Buffer.from('age-encryption.org/v1\n'),
    Buffer.alloc(4096, '\n--- '),
  ]);
  await assert.rejects(openAgeHeader(endless, mine.identity), wrong);
});
