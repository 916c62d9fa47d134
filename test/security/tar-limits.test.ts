import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBuilderdError } from '../../src/core/errors.ts';
import { DEFAULT_TAR_LIMITS, TarUsage } from '../../src/tar/limits.ts';
import { TarParser } from '../../src/tar/parser.ts';
import {
  base256,
  padded,
  rawEnd,
  rawFile,
  rawGnuLong,
  rawHeader,
  rawPax,
  rawSparsePairs,
} from '../fixtures/raw-tar.ts';
import { type ReadOptions, readTar } from '../fixtures/read-tar.ts';

function refuses(archive: Buffer, text: RegExp, options: ReadOptions = {}): void {
  for (const chunkSizes of [[1e9], [1], [513]]) {
    assert.throws(
      () => readTar(archive, { chunkSizes, ...options }),
      (e) => isBuilderdError(e, 'archive.limit') && text.test(e.message),
    );
  }
}

const xattr = (name: string, bytes: number): [string, Buffer] => [
  `SCHILY.xattr.user.${name}`,
  Buffer.alloc(bytes, 1),
];

test('B18 one extended attribute above 64 KiB is refused, 64 KiB is read', () => {
  const largest = Buffer.concat([rawPax([xattr('a', 65536)]), rawHeader()]);
  assert.equal(readTar(largest)[0]?.entry.xattrs[0]?.value.length, 65536);
  refuses(Buffer.concat([rawPax([xattr('a', 65537)]), rawHeader()]), /more than 65536 bytes/);
});

test('B18 a LIBARCHIVE attribute above 64 KiB is refused', () => {
  const value = Buffer.alloc(65537).toString('base64');
  refuses(Buffer.concat([rawPax([['LIBARCHIVE.xattr.user.a', value]]), rawHeader()]), /65536/);
});

test('B18 extended attributes of one entry above 256 KiB are refused', () => {
  const records = Array.from({ length: 5 }, (_, i) => xattr(`a${i}`, 60_000));
  refuses(Buffer.concat([rawPax(records), rawHeader()]), /more than 262144 bytes/);
});

test('B18 a name of an extended attribute above 255 bytes is refused', () => {
  refuses(Buffer.concat([rawPax([xattr('n'.repeat(251), 1)]), rawHeader()]), /255 bytes/);
});

test('B18 a million small attributes meet the limit of the extended header', () => {
  refuses(
    Buffer.concat([rawHeader({ type: 'x', size: 20_000_000 }), Buffer.alloc(4096)]),
    /1048576/,
  );
});

test('B18 extended attributes of all layers count together', () => {
  const usage = new TarUsage();
  const layer = Buffer.concat([rawPax([xattr('a', 600)]), rawHeader(), rawEnd()]);
  const options = { usage, limits: { maxXattrTotalBytes: 1000 } };
  readTar(layer, options);
  assert.throws(
    () => readTar(layer, options),
    (e) => isBuilderdError(e, 'archive.limit'),
  );
});

test('B19 a sparse file that claims 8 EiB is refused in every sparse format', () => {
  const old = rawHeader({
    magic: 'gnu',
    type: 'S',
    patches: [[483, base256(2n ** 63n, 12)]],
  });
  refuses(old, /2\^53-1/);
  const size = String(2n ** 63n);
  refuses(Buffer.concat([rawPax([['GNU.sparse.realsize', size]]), rawHeader()]), /2\^53-1/);
  refuses(Buffer.concat([rawPax([['GNU.sparse.size', size]]), rawHeader()]), /2\^53-1/);
});

test('B19 the logical size of a sparse file counts, not the few bytes that are stored', () => {
  const oneTiB = Buffer.concat([
    rawPax([
      ['GNU.sparse.size', String(2 ** 40)],
      ['GNU.sparse.map', '0,5'],
    ]),
    rawFile('hello'),
  ]);
  refuses(oneTiB, /1099511627776 bytes exceed the limit/);
  const tenGiB = Buffer.concat([
    rawPax([
      ['GNU.sparse.size', String(10 * 2 ** 30)],
      ['GNU.sparse.map', '0,5'],
    ]),
    rawFile('hello'),
  ]);
  refuses(Buffer.concat(Array.from({ length: 6 }, () => tenGiB)), /all files together/);
});

test('B20 a sparse map with 1e9 segments is refused before it is read', () => {
  const v10 = Buffer.concat([
    rawPax([
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
      ['GNU.sparse.realsize', '1000'],
    ]),
    rawFile(padded('1000000000\n')),
  ]);
  refuses(v10, /more than 100000 segments/);
});

test('B20 segments beyond the limit are refused in every sparse format', () => {
  const limits = { maxSparseSegments: 10 };
  const offsets = Array.from({ length: 11 }, (_, i) => i);
  const map = offsets.map((i) => `${i},0`).join(',');
  const pairs = offsets.flatMap((i): [string, string][] => [
    ['GNU.sparse.offset', String(i)],
    ['GNU.sparse.numbytes', '0'],
  ]);
  refuses(Buffer.concat([rawPax([['GNU.sparse.map', map]]), rawHeader()]), /10 segments/, {
    limits,
  });
  refuses(Buffer.concat([rawPax(pairs), rawHeader()]), /10 segments/, { limits });
  const extension = Buffer.alloc(512);
  rawSparsePairs(offsets.map((i): [number, number] => [i, 0])).copy(extension);
  const old = rawHeader({
    magic: 'gnu',
    type: 'S',
    patches: [
      [386, rawSparsePairs([[0, 0]])],
      [482, Buffer.from([1])],
      [483, Buffer.from('00000000100\0')],
    ],
  });
  refuses(Buffer.concat([old, extension]), /10 segments/, { limits });
});

test('B20 a number without end in a sparse map is refused', () => {
  const records: [string, string][] = [
    ['GNU.sparse.major', '1'],
    ['GNU.sparse.minor', '0'],
    ['GNU.sparse.realsize', '1000'],
  ];
  refuses(Buffer.concat([rawPax(records), rawFile(Buffer.alloc(100_000, '1'))]), /huge number/);
});

test('B22 totals hold however small the pieces are in which the bytes arrive', () => {
  const file = rawFile(Buffer.alloc(300));
  const archive = Buffer.concat([file, file, file, file, rawEnd()]);
  refuses(archive, /all files together/, { limits: { maxTotalLogicalBytes: 1000 } });
});

test('B30 a 4 GiB long name or PAX header is refused from its header alone', () => {
  for (const type of ['L', 'K', 'x', 'g']) {
    refuses(rawHeader({ type, size: 2 ** 32, magic: 'gnu' }), /more than 1048576 bytes/);
  }
});

test('B30 memory for a long header grows with what arrives, not with what is promised', () => {
  const before = process.memoryUsage().arrayBuffers;
  const parsers = Array.from({ length: 500 }, () => {
    const parser = new TarParser({ entry() {}, data() {}, fileEnd() {} });
    parser.push(rawHeader({ type: 'x', size: 2 ** 20 }));
    parser.push(Buffer.from('1'));
    return parser;
  });
  assert.equal(parsers.length, 500);
  // 500 MiB if each had allocated what its header promises.
  assert.ok(process.memoryUsage().arrayBuffers - before < 50e6);
});

test('B32 sizes above 2^53 and ids above 2^32-2 are refused', () => {
  refuses(rawHeader({ size: base256(2n ** 53n, 12) }), /2\^53-1/);
  refuses(Buffer.concat([rawPax([['size', '9007199254740993']]), rawHeader()]), /2\^53-1/);
  refuses(rawHeader({ uid: base256(2n ** 40n, 8) }), /user id 1099511627776/);
  refuses(rawHeader({ gid: base256(2n ** 32n - 1n, 8) }), /group id 4294967295/);
  refuses(Buffer.concat([rawPax([['uid', '4294967295']]), rawHeader()]), /user id/);
});

test('B32 device numbers that Linux cannot hold are refused', () => {
  refuses(rawHeader({ type: '3', devMajor: 4096 }), /device number 4096/);
  refuses(rawHeader({ type: '4', devMinor: 2 ** 20 }), /device number 1048576/);
});

test('B40 a component of 300 bytes is refused', () => {
  refuses(rawHeader({ name: 'a', prefix: 'p' }), /parts/, { limits: { maxDepth: 1 } });
  refuses(Buffer.concat([rawGnuLong('L', 'n'.repeat(300)), rawHeader()]), /255 bytes/);
  refuses(Buffer.concat([rawGnuLong('K', 'n'.repeat(300)), rawHeader({ type: '1' })]), /255 bytes/);
});

test('B40 a path of 70 kB is refused, also as a link target', () => {
  const long = 'dir/'.repeat(17_500);
  refuses(Buffer.concat([rawGnuLong('L', long), rawHeader()]), /4095 bytes/);
  refuses(Buffer.concat([rawPax([['path', long]]), rawHeader()]), /4095 bytes/);
  refuses(Buffer.concat([rawPax([['linkpath', long]]), rawHeader({ type: '2' })]), /4095 bytes/);
});

test('B40 a depth above 1,024 is refused', () => {
  refuses(Buffer.concat([rawGnuLong('L', 'd/'.repeat(1025)), rawHeader()]), /1024 parts/);
  const [member] = readTar(Buffer.concat([rawGnuLong('L', 'd/'.repeat(1024)), rawHeader()]));
  assert.equal(member?.entry.name.length, 2048);
});

test('B41 empty files beyond the limit of entries are refused', () => {
  const archive = Buffer.concat(Array.from({ length: 11 }, () => rawHeader()));
  refuses(archive, /limit of 10 entries/, { limits: { maxEntries: 10 } });
  assert.equal(DEFAULT_TAR_LIMITS.maxEntries, 2_000_000);
});

test('B41 global headers without end meet the limit of entries too', () => {
  const archive = Buffer.concat(Array.from({ length: 11 }, () => rawHeader({ type: 'g' })));
  refuses(archive, /limit of 10 entries/, { limits: { maxEntries: 10 } });
});

test('B41 long names of very many entries meet a limit for all names together', () => {
  const archive = Buffer.concat(
    Array.from({ length: 11 }, () => rawHeader({ name: 'tenbytes10' })),
  );
  refuses(archive, /all names together/, { limits: { maxTotalNameBytes: 100 } });
});
