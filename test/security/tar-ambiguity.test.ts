import assert from 'node:assert/strict';
import { test } from 'node:test';
import { escapeBytes } from '../../src/core/bytes.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
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
import { contentOf, readTar } from '../fixtures/read-tar.ts';

function refuses(archive: Buffer, text: RegExp): void {
  for (const chunkSizes of [[1e9], [1], [513]]) {
    assert.throws(
      () => readTar(archive, { chunkSizes }),
      (e) => isBuilderdError(e, 'archive.malformed') && text.test(e.message),
    );
  }
}

const longName = (body: Buffer): Buffer =>
  Buffer.concat([rawFile(body, { type: 'L', magic: 'gnu' }), rawHeader()]);
const minus1 = (width: number): Buffer => base256(-1, width);
const timeOf = (value: string): unknown =>
  readTar(Buffer.concat([rawPax([['mtime', value]]), rawHeader()]))[0]?.entry.mtime;

const names = (archive: Buffer): string[] => readTar(archive).map(({ entry }) => entry.name);

test('B24 what follows the end marker is taken and never interpreted', () => {
  const glued = Buffer.concat([
    rawHeader({ name: 'a' }),
    rawEnd(),
    rawHeader({ name: 'hidden' }),
    Buffer.from('junk'),
  ]);
  assert.deepEqual(names(glued), ['a']);
});

test('B24 a member after a single zero block is refused: readers disagree about it', () => {
  const archive = Buffer.concat([rawHeader(), Buffer.alloc(512), rawHeader(), rawEnd()]);
  refuses(archive, /single end block/);
});

test('B25 an archive that stops within a member is refused', () => {
  const archive = Buffer.concat([rawPax([['path', 'n']]), rawFile(Buffer.alloc(600))]);
  for (const length of [1, 511, 512, 513, 1024, 1025, 1536, 1537, 2047, 2135, 2200]) {
    refuses(archive.subarray(0, length), /ends (in the middle|after an extended header)/);
  }
});

test('B25 an archive that stops within a sparse map is refused', () => {
  const sparse = rawHeader({
    magic: 'gnu',
    type: 'S',
    patches: [
      [386, rawSparsePairs([[0, 0]])],
      [482, Buffer.from([1])],
    ],
  });
  refuses(sparse, /in the middle/);
});

test('B25 missing end blocks, one end block and missing last padding are accepted', () => {
  const file = rawFile('hello', { name: 'a' });
  assert.deepEqual(names(file), ['a']);
  assert.deepEqual(names(Buffer.concat([file, Buffer.alloc(512)])), ['a']);
  assert.deepEqual(names(file.subarray(0, 512 + 5)), ['a']);
});

test('B26 a wrong checksum refuses the archive, without a search for the next header', () => {
  const good = rawHeader({ name: 'good' });
  refuses(Buffer.concat([rawHeader({ checksum: 1 }), good]), /checksum/);
  refuses(Buffer.concat([good, Buffer.alloc(512, 'x'), good]), /"good".*checksum/);
  refuses(
    Buffer.concat([good, rawHeader({ patches: [[148, Buffer.from('zz')]] }), padded('x')]),
    /./,
  );
});

test('B26 a checksum field that is not a number is refused', () => {
  const block = rawHeader();
  block.write('abcdefgh', 148);
  refuses(block, /checksum/);
});

test('B27 a PAX size counts for the next member, so that nothing hides in its content', () => {
  const inner = rawFile('evil', { name: 'hidden' });
  const archive = Buffer.concat([
    rawPax([['size', String(inner.length)]]),
    rawHeader({ name: 'outer', size: 0 }),
    inner,
    rawEnd(),
  ]);
  const members = readTar(archive);
  assert.deepEqual(
    members.map(({ entry }) => [entry.name, entry.size]),
    [['outer', inner.length]],
  );
});

test('B27 a PAX size before a GNU long name counts for the member, not for the long name', () => {
  const archive = Buffer.concat([
    rawPax([['size', '5']]),
    rawGnuLong('L', 'the/long/name'),
    rawFile('hello', { size: 0 }),
    rawHeader({ name: 'next' }),
    rawEnd(),
  ]);
  const [first, next] = readTar(archive);
  assert.ok(first && next);
  assert.equal(first.entry.name, 'the/long/name');
  assert.equal(contentOf(first).toString(), 'hello');
  assert.equal(next.entry.name, 'next');
});

test('B27 a name that PAX and GNU both give is refused', () => {
  const pax = rawPax([['path', 'one']]);
  const long = rawGnuLong('L', 'two');
  refuses(Buffer.concat([pax, long, rawHeader()]), /both by PAX/);
  refuses(Buffer.concat([long, pax, rawHeader()]), /both by PAX/);
  const link = rawHeader({ type: '2', linkName: 'x' });
  refuses(
    Buffer.concat([rawPax([['linkpath', 'one']]), rawGnuLong('K', 'two'), link]),
    /both by PAX/,
  );
});

test('B27 extended headers that are doubled, interrupted or without a member are refused', () => {
  const pax = rawPax([['uid', '1']]);
  const long = rawGnuLong('L', 'n');
  refuses(Buffer.concat([pax, pax, rawHeader()]), /two headers of type x/);
  refuses(Buffer.concat([long, long, rawHeader()]), /two headers of type L/);
  refuses(Buffer.concat([pax, rawPax([], { type: 'g' }), rawHeader()]), /global header/);
  refuses(Buffer.concat([pax, rawEnd()]), /ends after an extended header/);
  refuses(long, /ends after an extended header/);
});

test('B28 a GNU long name that is empty or holds a NUL is refused, not skipped', () => {
  refuses(longName(Buffer.alloc(0)), /empty/);
  refuses(longName(Buffer.alloc(10)), /empty/);
  refuses(longName(Buffer.from('a\0b\0')), /holds a NUL/);
});

test('B29 PAX records with a lying length, no newline, no key or text around are refused', () => {
  const bodies = [
    '11 path=abc\n',
    '13 path=abc\n',
    '12 path=abcd',
    '12 path=abc',
    '9999999999999999999999 path=abc\n',
    '0 path=abc\n',
    '-12 path=abc\n',
    '+12 path=abc\n',
    ' 12 path=abc\n',
    '12\tpath=abc\n',
    'path=abc\n',
    '7 path\n',
    '5 =a\n',
    '3 \n',
    '12 path=abc\n\0\0',
    '12 path=abc\n\n',
  ];
  for (const body of bodies) {
    refuses(Buffer.concat([rawPax(Buffer.from(body)), rawHeader()]), /PAX record/);
  }
});

test('B29 a NUL in a PAX name or key is refused', () => {
  refuses(Buffer.concat([rawPax([['path', 'a\0b']]), rawHeader()]), /holds a NUL/);
  refuses(Buffer.concat([rawPax([['linkpath', 'a\0']]), rawHeader({ type: '2' })]), /NUL/);
  refuses(Buffer.concat([rawPax([['SCHILY.xattr.user.a\0', 'v']]), rawHeader()]), /NUL/);
  refuses(Buffer.concat([rawPax([['LIBARCHIVE.xattr.a%00b', '']]), rawHeader()]), /unusable/);
  refuses(Buffer.concat([rawPax([['GNU.sparse.name', 'a\0']]), rawHeader()]), /NUL/);
});

test('B29 a PAX key that is given twice is refused, equal or not, known or not', () => {
  for (const key of ['path', 'size', 'comment', 'VENDOR.key', 'SCHILY.xattr.user.a']) {
    const records: [string, string][] = [
      [key, '1'],
      [key, '1'],
    ];
    refuses(Buffer.concat([rawPax(records), rawHeader()]), /given twice/);
  }
});

test('B29 PAX numbers and encodings that are not plain are refused', () => {
  const table: [key: string, value: string][] = [
    ['size', '-1'],
    ['size', '0x10'],
    ['size', '1e3'],
    ['size', ' 1'],
    ['uid', '-1'],
    ['uid', '1.5'],
    ['gid', '+1'],
    ['LIBARCHIVE.xattr.user.a', '!!!!'],
    ['LIBARCHIVE.xattr.user.a', 'A'],
    ['LIBARCHIVE.xattr.user.%zz', 'AAAA'],
    ['LIBARCHIVE.xattr.', 'AAAA'],
    ['SCHILY.xattr.', 'v'],
    ['GNU.sparse.map', '1,,2'],
  ];
  for (const record of table) refuses(Buffer.concat([rawPax([record]), rawHeader()]), /./);
});

test('B20 sparse maps that overlap, run backwards, lie about sizes or do not end are refused', () => {
  const maps: [map: string, stored: number][] = [
    ['0,5,4,5', 10],
    ['10,5,0,5', 10],
    ['98,5', 5],
    ['101,0', 0],
    ['0,5', 6],
    ['0,5', 4],
    ['9007199254740991,9007199254740991', 5],
    ['1', 1],
  ];
  for (const [map, stored] of maps) {
    const records: [string, string][] = [
      ['GNU.sparse.size', '100'],
      ['GNU.sparse.map', map],
    ];
    refuses(Buffer.concat([rawPax(records), rawFile(Buffer.alloc(stored))]), /spars/);
  }
  const v10: [string, string][] = [
    ['GNU.sparse.major', '1'],
    ['GNU.sparse.minor', '0'],
    ['GNU.sparse.realsize', '100'],
  ];
  for (const text of ['', '1\n', '1\n0\n', 'x\n', '\n', '-1\n', '1\n0\n5\n', '2\n0\n5\n']) {
    refuses(Buffer.concat([rawPax(v10), rawFile(text)]), /its sparse map/);
  }
});

test('B20 sparse records that do not fit together are refused', () => {
  const table: [records: [string, string][], type: string][] = [
    [[['GNU.sparse.map', '0,0']], '0'],
    [[['GNU.sparse.name', 'other']], '0'],
    [[['GNU.sparse.size', '5']], '5'],
    [
      [
        ['GNU.sparse.major', '2'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.realsize', '0'],
      ],
      '0',
    ],
    [
      [
        ['GNU.sparse.size', '5'],
        ['GNU.sparse.numblocks', '2'],
        ['GNU.sparse.map', '0,0'],
      ],
      '0',
    ],
    [
      [
        ['GNU.sparse.offset', '0'],
        ['GNU.sparse.offset', '0'],
      ],
      '0',
    ],
    [[['GNU.sparse.numbytes', '0']], '0'],
    [
      [
        ['GNU.sparse.map', '0,0'],
        ['GNU.sparse.offset', '1'],
      ],
      '0',
    ],
  ];
  for (const [records, type] of table) {
    refuses(Buffer.concat([rawPax(records), rawHeader({ type })]), /sparse/);
  }
});

test('B31 a global PAX header changes nothing', () => {
  const archive = Buffer.concat([
    rawPax(
      [
        ['path', 'evil'],
        ['size', '512'],
        ['uid', '99'],
        ['SCHILY.xattr.user.a', 'v'],
        ['comment', 'kept by git archive'],
      ],
      { type: 'g' },
    ),
    rawHeader({ name: 'a', uid: 1 }),
    rawHeader({ name: 'b', uid: 2 }),
    rawEnd(),
  ]);
  assert.deepEqual(
    readTar(archive).map(({ entry }) => [entry.name, entry.uid, entry.size, entry.xattrs.length]),
    [
      ['a', 1, 0, 0],
      ['b', 2, 0, 0],
    ],
  );
});

test('B31 a global PAX header that breaks the format is refused', () => {
  refuses(Buffer.concat([rawPax(Buffer.from('99 a=b\n'), { type: 'g' }), rawHeader()]), /PAX/);
});

test('B32 negative sizes, ids, modes and device numbers are refused', () => {
  refuses(rawHeader({ size: minus1(12) }), /size is negative/);
  refuses(rawHeader({ uid: minus1(8) }), /user id is negative/);
  refuses(rawHeader({ gid: minus1(8) }), /group id is negative/);
  refuses(rawHeader({ mode: minus1(8) }), /mode is negative/);
  refuses(rawHeader({ type: '3', devMajor: minus1(8) }), /device number is negative/);
  refuses(rawHeader({ type: 'L', magic: 'gnu', size: minus1(12) }), /size is negative/);
  refuses(rawHeader({ type: 'S', magic: 'gnu', patches: [[483, minus1(12)]] }), /size is negative/);
});

test('B38 names that are not UTF-8 are kept byte for byte, from headers, PAX and GNU alike', () => {
  const bytes = Buffer.from([0x63, 0x61, 0x66, 0xe9, 0xff, 0xfe, 0xc3, 0x28]);
  const archive = Buffer.concat([
    rawHeader({ name: bytes }),
    rawPax([['path', bytes]]),
    rawHeader(),
    rawGnuLong('L', bytes),
    rawHeader({ type: '2', linkName: bytes, magic: 'gnu' }),
    rawEnd(),
  ]);
  const members = readTar(archive);
  assert.equal(members.length, 3);
  for (const { entry } of members) assert.deepEqual(Buffer.from(entry.name, 'latin1'), bytes);
  assert.deepEqual(Buffer.from(members[2]?.entry.linkName ?? '', 'latin1'), bytes);
});

test('B39 newline and ESC in names are kept, and escaped in every message', () => {
  const name = 'a\n\x1b[31mb';
  assert.deepEqual(names(rawHeader({ name })), [name]);
  assert.throws(
    () => readTar(rawHeader({ name, uid: 'bad' })),
    (e) =>
      isBuilderdError(e) &&
      e.message.includes('a\\x0a\\x1b[31mb') &&
      !/[\n\x1b]/.test(e.message) &&
      e.details['entry'] === escapeBytes(name as never),
  );
});

test('B39 an unusable name or link target is refused', () => {
  refuses(rawHeader({ name: '' }), /empty/);
  refuses(rawHeader({ type: '2', linkName: '' }), /empty/);
  refuses(rawHeader({ type: '1', linkName: '' }), /empty/);
});

test('B42 odd times are kept or clamped, and what is no time is refused', () => {
  assert.deepEqual(timeOf('-62135596800.5'), { sec: -62135596801, nsec: 500_000_000 });
  assert.deepEqual(timeOf('884541340800'), { sec: 884541340800, nsec: 0 });
  const { sec } = timeOf('9'.repeat(40)) as { sec: number };
  assert.ok(Number.isSafeInteger(sec) && sec > 2 ** 52);
  const past = timeOf(`-${'9'.repeat(40)}.5`) as { sec: number };
  assert.ok(Number.isSafeInteger(past.sec) && past.sec < -(2 ** 52));
  const huge = readTar(rawHeader({ mtime: base256(2n ** 80n, 12) }))[0]?.entry.mtime;
  assert.ok(Number.isSafeInteger(huge?.sec));
  for (const text of ['NaN', 'Infinity', '1e9', '1.2.3', '.5', '-', '--1', '1,5', '1'.repeat(65)]) {
    refuses(Buffer.concat([rawPax([['mtime', text]]), rawHeader()]), /not a time/);
  }
  refuses(rawHeader({ mtime: 'x' }), /modification time/);
});

test('B43 unknown type flags are refused', () => {
  for (const type of ['8', '9', 'A', 'D', 'M', 'N', 'V', 'X', 'I', '\xff', ' ']) {
    refuses(rawHeader({ type }), /type .* is not known/);
  }
  refuses(rawHeader({ type: 'S', magic: 'ustar' }), /type "S" is not known/);
});

test('B44 a directory, link, device or FIFO with a body is refused', () => {
  const hidden = rawHeader({ name: 'hidden' });
  for (const type of ['1', '2', '3', '4', '5', '6']) {
    refuses(
      Buffer.concat([rawHeader({ type, linkName: 't', size: 512 }), hidden]),
      /declares 512 bytes of content/,
    );
  }
  refuses(Buffer.concat([rawHeader({ type: '\0', name: 'd/', size: 512 }), hidden]), /a dir entry/);
  refuses(
    Buffer.concat([rawPax([['size', '512']]), rawHeader({ type: '5' }), hidden]),
    /declares 512 bytes/,
  );
});
