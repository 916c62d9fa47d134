import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bytesOf, type ByteString } from '../../src/core/bytes.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { DEFAULT_TAR_LIMITS } from '../../src/tar/limits.ts';
import { TarParser } from '../../src/tar/parser.ts';
import { encodeHeader, endOfArchive, padding } from '../../src/tar/writer.ts';
import { arbitraryTarEntry, withSortedXattrs } from '../fixtures/arbitrary-tar-entry.ts';
import { contentOf, readTar } from '../fixtures/read-tar.ts';

const PLAIN: TarEntry = {
  kind: 'file',
  name: bytesOf('etc/motd'),
  linkName: bytesOf(''),
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: { sec: 1_700_000_000, nsec: 0 },
  xattrs: [],
  devMajor: 0,
  devMinor: 0,
};

/** The body of the extended header, or undefined when there is none. */
function paxBody(entry: TarEntry): string | undefined {
  const header = encodeHeader(entry);
  if (header.length === 512) return undefined;
  assert.equal(header.toString('latin1', 156, 157), 'x');
  const size = Number.parseInt(header.toString('latin1', 124, 135), 8);
  return header.toString('latin1', 512, 512 + size);
}

test('encodeHeader() writes one ustar block, to the byte, when that holds everything', () => {
  const block = Buffer.alloc(512);
  block.write('etc/motd', 0);
  block.write('0000644\x000000000\x000000000\x0000000000005\x0014524770400\x00', 100);
  block.write('0', 156);
  block.write('ustar\x0000', 257);
  block.write('0000000\x000000000\x00', 329);
  let sum = 8 * 32;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  assert.deepEqual(encodeHeader({ ...PLAIN, size: 5 }), block);
});

test('encodeHeader() splits a long ASCII path between name and prefix', () => {
  const name = bytesOf(`${'p'.repeat(155)}/${'n'.repeat(100)}`);
  const header = encodeHeader({ ...PLAIN, name });
  assert.equal(header.length, 512);
  assert.equal(header.toString('latin1', 0, 100), 'n'.repeat(100));
  assert.equal(header.toString('latin1', 345, 500), 'p'.repeat(155));
  const directory = bytesOf(`${'p'.repeat(99)}/dir/`);
  assert.equal(encodeHeader({ ...PLAIN, kind: 'dir', name: directory }).length, 512);
});

test('encodeHeader() adds exactly the PAX records that are needed, sorted', () => {
  const table: [what: string, change: Partial<TarEntry>, want: string | undefined][] = [
    ['nothing', {}, undefined],
    ['the largest octal id', { uid: 2097151, gid: 2097151 }, undefined],
    ['a larger uid', { uid: 2097152 }, '15 uid=2097152\n'],
    ['a larger gid', { gid: 4294967294 }, '18 gid=4294967294\n'],
    ['the largest octal size', { size: 8 ** 11 - 1 }, undefined],
    ['a larger size', { size: 8 ** 11 }, '19 size=8589934592\n'],
    ['nanoseconds', { mtime: { sec: 1, nsec: 5 } }, '21 mtime=1.000000005\n'],
    ['short fractions', { mtime: { sec: 1, nsec: 500_000_000 } }, '13 mtime=1.5\n'],
    ['before 1970', { mtime: { sec: -1, nsec: 0 } }, '12 mtime=-1\n'],
    ['just before 1970', { mtime: { sec: -1, nsec: 500_000_000 } }, '14 mtime=-0.5\n'],
    ['access time', { atime: { sec: 7, nsec: 0 } }, '11 atime=7\n'],
    ['UTF-8', { name: bytesOf('é') }, '11 path=\xc3\xa9\n'],
    ['raw bytes', { name: '\xe9' as ByteString }, '21 hdrcharset=BINARY\n9 path=\xe9\n'],
    [
      'a long target',
      { kind: 'symlink', linkName: bytesOf('t'.repeat(101)) },
      `115 linkpath=${'t'.repeat(101)}\n`,
    ],
    [
      'attributes',
      {
        xattrs: [
          { name: bytesOf('user.b'), value: Buffer.from('\0\n=') },
          { name: bytesOf('user.a'), value: Buffer.alloc(0) },
        ],
      },
      '24 SCHILY.xattr.user.a=\n27 SCHILY.xattr.user.b=\0\n=\n',
    ],
    [
      'an attribute name that a PAX key cannot hold',
      { xattrs: [{ name: bytesOf('user.a=b'), value: Buffer.from('v') }] },
      '34 LIBARCHIVE.xattr.user.a%3Db=dg\n',
    ],
  ];
  for (const [what, change, want] of table) {
    assert.equal(paxBody({ ...PLAIN, ...change }), want, what);
  }
});

test('encodeHeader() counts the digits of a record length when they carry over', () => {
  for (let length = 80; length < 120; length++) {
    const name = `${'n'.repeat(length)}\x80` as ByteString;
    const [member] = readTar(encodeHeader({ ...PLAIN, name }));
    assert.equal(member?.entry.name, name);
  }
});

test('encodeHeader() refuses what tar cannot hold', () => {
  const table: Partial<TarEntry>[] = [
    { name: bytesOf('') },
    { name: bytesOf('a\0b') },
    { kind: 'symlink', linkName: bytesOf('a\0b') },
    { kind: 'dir', size: 1 },
    { xattrs: [{ name: bytesOf(''), value: Buffer.alloc(0) }] },
    { xattrs: [{ name: bytesOf('user.\0'), value: Buffer.alloc(0) }] },
    { size: -1 },
    { uid: 0.5 },
    { devMajor: Number.NaN },
  ];
  for (const change of table) {
    assert.throws(
      () => encodeHeader({ ...PLAIN, ...change }),
      (e) => isBuilderdError(e, 'artifact.unrepresentable'),
    );
  }
});

test('padding() fills up to a block, endOfArchive() is two zero blocks', () => {
  for (const [size, want] of [
    [0, 0],
    [1, 511],
    [512, 0],
    [513, 511],
    [8 ** 11 + 1, 511],
  ] as const) {
    assert.equal(padding(size).length, want);
    assert.ok(padding(size).every((byte) => byte === 0));
  }
  assert.deepEqual(endOfArchive(), Buffer.alloc(1024));
});

test('an entry of any kind, names and values of any bytes, comes back as it was written', () => {
  const limits = {
    ...DEFAULT_TAR_LIMITS,
    maxFileBytes: Number.MAX_SAFE_INTEGER,
    maxTotalLogicalBytes: Number.MAX_SAFE_INTEGER,
  };
  fc.assert(
    fc.property(arbitraryTarEntry(2 ** 53 - 1), (entry) => {
      const got: TarEntry[] = [];
      const parser = new TarParser(
        { entry: (seen) => void got.push(seen), data() {}, fileEnd() {} },
        limits,
      );
      parser.push(encodeHeader(entry));
      assert.deepEqual(got.map(withSortedXattrs), [withSortedXattrs(entry)]);
    }),
    { numRuns: 500 },
  );
});

test('an archive gives the same events whatever the sizes of its chunks', () => {
  const chunkSizes = fc.oneof(
    fc.constant([1]),
    fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 1, maxLength: 8 }),
  );
  fc.assert(
    fc.property(
      fc.array(arbitraryTarEntry(3000), { maxLength: 5 }),
      chunkSizes,
      fc.nat(),
      (entries, sizes, seed) => {
        const contents = entries.map(({ size }) => Buffer.alloc(size, `${seed}.`));
        const archive = Buffer.concat([
          ...entries.flatMap((entry, i) => [
            encodeHeader(entry),
            contents[i] ?? Buffer.alloc(0),
            padding(entry.size),
          ]),
          endOfArchive(),
        ]);
        const whole = readTar(archive);
        assert.deepEqual(readTar(archive, { chunkSizes: sizes }), whole);
        assert.deepEqual(
          whole.map(({ entry }) => withSortedXattrs(entry)),
          entries.map(withSortedXattrs),
        );
        assert.deepEqual(whole.map(contentOf), contents);
      },
    ),
    { numRuns: 150 },
  );
});
