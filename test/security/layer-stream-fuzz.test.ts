import assert from 'node:assert/strict';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import zlib from 'node:zlib';
import fc from 'fast-check';
import { type Addon, loadAddon } from '../../native/addon.ts';
import { sha256 } from '../../src/core/digest.ts';

const MAX_PLAIN = 1 << 20;
const addon = loadAddon();
const skip =
  addon === undefined ? 'the addon is not built' : isalAbsent(addon) && 'isa-l is not installed';

function isalAbsent(loaded: Addon): boolean {
  const fd = openSync('/dev/null', 'r');
  try {
    return loaded.layerStreamOpen(fd, true) === null;
  } finally {
    closeSync(fd);
  }
}

type Outcome = { readonly plain: Buffer } | { readonly refused: string };

/** Reads with small odd capacities, so that members and blocks meet every kind of border. */
async function byAddon(t: TestContext, packed: Buffer, capacity: number): Promise<Outcome> {
  assert.ok(addon !== undefined);
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-fuzz-'));
  const file = path.join(dir.path, 'blob');
  writeFileSync(file, packed);
  const fd = openSync(file, 'r');
  try {
    const stream = addon.layerStreamOpen(fd, true);
    assert.ok(stream !== null);
    const buffer = Buffer.alloc(capacity + 64, 0xa5);
    const chunks: Buffer[] = [];
    let total = 0;
    for (let filled = capacity; filled === capacity && total < MAX_PLAIN; ) {
      try {
        filled = (await addon.layerStreamFill(stream, buffer, capacity)).length;
      } catch (reason) {
        assert.ok(reason instanceof Error && 'code' in reason);
        assert.match(String(reason.code), /^ERR_GZIP/, t.name);
        return { refused: String(reason.code) };
      } finally {
        const beyond = buffer.subarray(capacity);
        assert.ok(
          beyond.every((byte) => byte === 0xa5),
          'it wrote beyond the capacity',
        );
      }
      chunks.push(Buffer.from(buffer.subarray(0, filled)));
      total += filled;
    }
    if (total < MAX_PLAIN) {
      assert.equal(addon.layerStreamResult(stream).digest.toString('hex'), sha256(packed).slice(7));
    }
    return { plain: Buffer.concat(chunks) };
  } finally {
    closeSync(fd);
  }
}

function byZlib(packed: Buffer): Outcome {
  try {
    return { plain: zlib.gunzipSync(packed, { maxOutputLength: MAX_PLAIN }) };
  } catch (reason) {
    return { refused: reason instanceof Error ? reason.message : String(reason) };
  }
}

const member = fc
  .record({
    plain: fc.oneof(
      fc.uint8Array({ maxLength: 3000 }),
      fc.tuple(fc.nat(255), fc.nat(70_000)).map(([byte, count]) => Buffer.alloc(count, byte)),
      fc.constant(Buffer.alloc(0)),
    ),
    level: fc.constantFrom(0, 1, 6, 9),
    strategy: fc.constantFrom(
      zlib.constants.Z_DEFAULT_STRATEGY,
      zlib.constants.Z_FIXED,
      zlib.constants.Z_HUFFMAN_ONLY,
    ),
  })
  .map(({ plain, level, strategy }) => zlib.gzipSync(plain, { level, strategy }));

const honest = fc.array(member, { minLength: 1, maxLength: 5 }).map((all) => Buffer.concat(all));
const capacities = fc.constantFrom(61, 257, 4096, 65_537);

test('layerStreamFill() gives what zlib gives for honest members, and the digest', {
  skip,
}, async (t) => {
  await fc.assert(
    fc.asyncProperty(honest, capacities, async (packed, capacity) => {
      assert.deepEqual(await byAddon(t, packed, capacity), byZlib(packed));
    }),
    { numRuns: 60 },
  );
});

test('B25 layerStreamFill() refuses every cut of an honest stream that zlib refuses', {
  skip,
}, async (t) => {
  await fc.assert(
    fc.asyncProperty(
      honest,
      fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
      async (packed, at) => {
        const cut = packed.subarray(0, Math.floor(packed.length * at));
        const [ours, theirs] = [await byAddon(t, cut, 4096), byZlib(cut)];
        if ('refused' in theirs) assert.ok('refused' in ours, theirs.refused);
        else if ('plain' in ours) assert.deepEqual(ours, theirs);
      },
    ),
    { numRuns: 80 },
  );
});

test('layerStreamFill() never gives other bytes than zlib for damaged streams', {
  skip,
}, async (t) => {
  const damage = fc.array(
    fc.tuple(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), fc.nat(255)),
    {
      minLength: 1,
      maxLength: 6,
    },
  );
  await fc.assert(
    fc.asyncProperty(honest, damage, capacities, async (packed, changes, capacity) => {
      const bytes = Buffer.from(packed);
      for (const [at, byte] of changes) bytes[Math.floor(bytes.length * at)] = byte;
      const [ours, theirs] = [await byAddon(t, bytes, capacity), byZlib(bytes)];
      // Ours may be stricter (what follows zero padding); it may never accept more, or otherwise.
      if ('plain' in ours) assert.deepEqual(ours, theirs);
    }),
    { numRuns: 200 },
  );
});

test('layerStreamFill() refuses reserved header flags, in any member (RFC 1952 2.3.1.2)', {
  skip,
}, async (t) => {
  const first = zlib.gzipSync('a');
  const flagged = zlib.gzipSync('b');
  flagged[3] = 0x60;
  assert.ok('refused' in (await byAddon(t, flagged, 64)));
  assert.ok('refused' in (await byAddon(t, Buffer.concat([first, flagged]), 64)));
});

test('layerStreamFill() refuses sizes that no buffer has', { skip }, () => {
  const fd = openSync('/dev/null', 'r');
  try {
    const stream = addon?.layerStreamOpen(fd, false);
    for (const capacity of [Number.NaN, Number.POSITIVE_INFINITY, -1, 0, 11, 1e300]) {
      assert.throws(
        () => stream && addon?.layerStreamFill(stream, Buffer.alloc(10), capacity),
        RangeError,
      );
    }
  } finally {
    closeSync(fd);
  }
});
