import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isBuilderdError } from '../../src/core/errors.ts';
import { encodeHeader, endOfArchive, padding } from '../../src/tar/writer.ts';
import { arbitraryTarEntry } from '../fixtures/arbitrary-tar-entry.ts';
import {
  padded,
  rawEnd,
  rawFile,
  rawGnuLong,
  rawHeader,
  rawPax,
  rawSparsePairs,
  withChecksum,
} from '../fixtures/raw-tar.ts';
import { type ReadMember, readTar } from '../fixtures/read-tar.ts';

// The unit lane stays short; a longer hunt: BUILDERD_FUZZ_RUNS=200000 node --test <this file>.
const RUNS = Number(process.env['BUILDERD_FUZZ_RUNS'] ?? 2500);

const LIMITS = { maxFileBytes: 1 << 20, maxTotalLogicalBytes: 1 << 22, maxSparseSegments: 50 };

/** What a reader makes of the archive: its members, or the refusal. Anything else is a bug. */
function outcome(archive: Buffer, chunkSizes: readonly number[]): ReadMember[] | string {
  try {
    const members = readTar(archive, { limits: LIMITS, chunkSizes });
    for (const { entry, pieces } of members) {
      assert.ok(Number.isSafeInteger(entry.size) && entry.size >= 0);
      assert.ok(entry.kind === 'file' || pieces.length === 0);
      for (const { offset, bytes } of pieces) assert.ok(offset + bytes.length <= entry.size);
    }
    const stored = members.flatMap(({ pieces }) => pieces).reduce((n, p) => n + p.bytes.length, 0);
    assert.ok(stored <= archive.length);
    return members;
  } catch (reason) {
    if (!isBuilderdError(reason)) throw reason;
    assert.match(reason.code, /^archive\.(malformed|limit)$/);
    assert.ok(reason.message.length < 1000);
    return `${reason.code}: ${reason.message}`;
  }
}

const SEEDS: readonly Buffer[] = [
  Buffer.concat([
    rawHeader({ type: '5', name: 'd/' }),
    rawFile('hello', { name: 'd/a', magic: 'gnu' }),
    rawHeader({ type: '1', name: 'b', linkName: 'd/a' }),
    rawHeader({ type: '3', name: 'null', devMajor: 1, devMinor: 3, prefix: 'dev' }),
    rawEnd(),
  ]),
  Buffer.concat([
    rawPax([
      ['path', 'a/long/name'],
      ['mtime', '-1.5'],
      ['size', '700'],
      ['SCHILY.xattr.user.a', Buffer.from([0, 10, 255])],
      ['LIBARCHIVE.xattr.user.%62', 'AAEC'],
    ]),
    rawFile(Buffer.alloc(700, 3)),
    rawPax([['comment', 'c']], { type: 'g' }),
    rawGnuLong('K', 'target/'.repeat(30)),
    rawGnuLong('L', 'name/'.repeat(30)),
    rawHeader({ type: '2', magic: 'gnu' }),
    rawEnd(),
  ]),
  Buffer.concat([
    rawPax([
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
      ['GNU.sparse.name', 'sparse'],
      ['GNU.sparse.realsize', '5000'],
    ]),
    rawFile(Buffer.concat([padded('2\n10\n5\n4000\n600\n'), Buffer.alloc(605, 7)])),
    rawPax([
      ['GNU.sparse.size', '5000'],
      ['GNU.sparse.numblocks', '2'],
      ['GNU.sparse.map', '0,5,4990,10'],
    ]),
    rawFile(Buffer.alloc(15, 8)),
    rawHeader({
      magic: 'gnu',
      type: 'S',
      size: 12,
      patches: [
        [
          386,
          rawSparsePairs([
            [0, 4],
            [10, 4],
            [20, 4],
            [100, 0],
          ]),
        ],
        [482, Buffer.from([1])],
        [483, Buffer.from('00000000200\0')],
      ],
    }),
    Buffer.alloc(512),
    padded(Buffer.alloc(12, 9)),
    rawEnd(),
  ]),
];

interface Mutation {
  readonly at: number;
  readonly bytes: Uint8Array;
  readonly kind: 'write' | 'insert' | 'delete' | 'swap-block';
  /** Makes the header block at this place valid again, so that the change gets past the checksum. */
  readonly repair: boolean;
}

const mutation: fc.Arbitrary<Mutation> = fc.record({
  at: fc.oneof(fc.nat({ max: 600 }), fc.nat({ max: 8000 })),
  bytes: fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 12 }),
    fc
      .constantFrom(
        '7777777',
        '-1',
        '\0',
        '\n',
        '=',
        '9',
        'x',
        'L',
        'S',
        '1',
        '5',
        '\x80\0',
        '\xff',
      )
      .map((text) => Buffer.from(text, 'latin1')),
  ),
  kind: fc.constantFrom('write', 'write', 'write', 'insert', 'delete', 'swap-block'),
  repair: fc.constantFrom(true, true, true, false),
});

function mutate(seed: Buffer, mutations: readonly Mutation[]): Buffer {
  let archive = Buffer.from(seed);
  for (const { at, bytes, kind, repair } of mutations) {
    const start = at % Math.max(archive.length, 1);
    const block = start - (start % 512);
    if (kind === 'write') archive.set(bytes.subarray(0, archive.length - start), start);
    else if (kind === 'insert') {
      archive = Buffer.concat([archive.subarray(0, start), bytes, archive.subarray(start)]);
    } else if (kind === 'delete') {
      archive = Buffer.concat([archive.subarray(0, start), archive.subarray(start + bytes.length)]);
    } else {
      const moved = archive.subarray(block, block + 512);
      archive = Buffer.concat([archive.subarray(0, block), archive.subarray(block + 512), moved]);
    }
    if (repair && archive.length >= block + 512) withChecksum(archive.subarray(block, block + 512));
  }
  return archive;
}

const chunkSizes = fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 5 });

test('TarParser reads or refuses any mutation of an archive, the same in any chunks', () => {
  let read = 0;
  let refused = 0;
  fc.assert(
    fc.property(
      fc.constantFrom(...SEEDS),
      fc.array(mutation, { minLength: 1, maxLength: 4 }),
      chunkSizes,
      (seed, mutations, sizes) => {
        const archive = mutate(seed, mutations);
        const whole = outcome(archive, [archive.length || 1]);
        assert.deepEqual(outcome(archive, sizes), whole);
        if (typeof whole === 'string') refused++;
        else read++;
      },
    ),
    { numRuns: RUNS },
  );
  // A fuzzer whose mutations all die at the checksum, or all do nothing, would test nothing.
  assert.ok(read > RUNS / 20 && refused > RUNS / 20, `${read} read, ${refused} refused`);
});

test('TarParser reads or refuses any mutation of what encodeHeader() writes', () => {
  fc.assert(
    fc.property(
      fc.array(arbitraryTarEntry(2000), { minLength: 1, maxLength: 3 }),
      fc.array(mutation, { minLength: 1, maxLength: 4 }),
      chunkSizes,
      (entries, mutations, sizes) => {
        const parts = entries.flatMap((entry) => [
          encodeHeader(entry),
          Buffer.alloc(entry.size, 1),
          padding(entry.size),
        ]);
        const archive = mutate(Buffer.concat([...parts, endOfArchive()]), mutations);
        assert.deepEqual(outcome(archive, sizes), outcome(archive, [archive.length || 1]));
      },
    ),
    { numRuns: Math.ceil(RUNS / 5) },
  );
});

test('TarParser reads or refuses random bytes', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 3000 }),
      fc.boolean(),
      chunkSizes,
      (bytes, ok, sizes) => {
        const archive = Buffer.from(bytes);
        if (ok && archive.length >= 512) withChecksum(archive.subarray(0, 512));
        assert.deepEqual(outcome(archive, sizes), outcome(archive, [archive.length || 1]));
      },
    ),
    { numRuns: Math.ceil(RUNS / 5) },
  );
});

test('TarParser reads or refuses random PAX bodies and sparse maps', () => {
  const body = fc
    .array(
      fc.constantFrom('1', '2', '9', '0', ' ', '=', '\n', 'path', 'GNU.sparse.map', ',', '\0'),
      {
        maxLength: 40,
      },
    )
    .map((parts) => Buffer.from(parts.join('')));
  fc.assert(
    fc.property(body, body, chunkSizes, (pax, map, sizes) => {
      const archive = Buffer.concat([
        rawPax(pax),
        rawHeader({ name: 'a' }),
        rawPax([
          ['GNU.sparse.major', '1'],
          ['GNU.sparse.minor', '0'],
          ['GNU.sparse.realsize', '1000'],
        ]),
        rawFile(map),
      ]);
      for (const part of [archive, archive.subarray(512 + padded(pax).length)]) {
        assert.deepEqual(outcome(part, sizes), outcome(part, [part.length || 1]));
      }
    }),
    { numRuns: Math.ceil(RUNS / 5) },
  );
});
