import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBuilderdError } from '../../src/core/errors.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
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
import { contentOf, readTar } from '../fixtures/read-tar.ts';

function only(...parts: Buffer[]): TarEntry {
  const members = readTar(Buffer.concat([...parts, rawEnd()]));
  assert.equal(members.length, 1);
  const entry = members[0]?.entry;
  assert.ok(entry);
  return entry;
}

const refusal = (code: 'archive.malformed' | 'archive.limit', text: RegExp) => (e: unknown) =>
  isBuilderdError(e, code) && text.test(e.message);

test('TarParser reads every field of a ustar member', () => {
  const entry = only(
    rawFile('hello', {
      name: 'etc/motd',
      mode: 0o104755,
      uid: 1000,
      gid: 2000,
      mtime: 1234567890,
    }),
  );
  assert.deepEqual(entry, {
    kind: 'file',
    name: 'etc/motd',
    linkName: '',
    mode: 0o4755,
    uid: 1000,
    gid: 2000,
    size: 5,
    mtime: { sec: 1234567890, nsec: 0 },
    xattrs: [],
    devMajor: 0,
    devMinor: 0,
  });
});

test('TarParser maps the type flags of POSIX to kinds', () => {
  const table: [type: string, name: string, kind: TarEntry['kind']][] = [
    ['0', 'a', 'file'],
    ['\0', 'a', 'file'],
    ['7', 'a', 'file'],
    ['0', 'a/', 'file'],
    ['\0', 'a/', 'dir'],
    ['1', 'a', 'hardlink'],
    ['2', 'a', 'symlink'],
    ['3', 'a', 'char'],
    ['4', 'a', 'block'],
    ['5', 'a', 'dir'],
    ['6', 'a', 'fifo'],
  ];
  for (const [type, name, kind] of table) {
    const entry = only(rawHeader({ type, name, linkName: 't', devMajor: 5, devMinor: 1 }));
    assert.equal(entry.kind, kind, `type ${JSON.stringify(type)}`);
    assert.equal(entry.linkName, kind.endsWith('link') ? 't' : '');
    const isDevice = kind === 'char' || kind === 'block';
    assert.deepEqual([entry.devMajor, entry.devMinor], isDevice ? [5, 1] : [0, 0]);
  }
});

test('TarParser joins prefix and name in ustar, and takes no prefix from v7 and GNU headers', () => {
  const atimeField = Buffer.from('14737257737\0');
  assert.equal(only(rawHeader({ name: 'b', prefix: 'a' })).name, 'a/b');
  assert.equal(only(rawHeader({ name: 'b', prefix: 'a', magic: 'v7' })).name, 'b');
  const gnu = only(rawHeader({ name: 'b', magic: 'gnu', patches: [[345, atimeField]] }));
  assert.equal(gnu.name, 'b');
  assert.deepEqual(gnu.atime, { sec: 0o14737257737, nsec: 0 });
});

test('TarParser uses a full name field of 100 bytes without a NUL', () => {
  const name = 'n'.repeat(100);
  assert.equal(only(rawHeader({ name })).name, name);
});

test('TarParser takes the prefix that old Go writers put into GNU headers', () => {
  const entry = only(rawHeader({ name: 'b', magic: 'gnu', prefix: 'very/long/prefix' }));
  assert.equal(entry.name, 'very/long/prefix/b');
});

test('TarParser reads star headers with a 131-byte prefix and times behind it', () => {
  const entry = only(
    rawHeader({
      name: 'b',
      patches: [
        [345, Buffer.from('p'.repeat(131))],
        [476, Buffer.from('00000000012\0')],
        [508, Buffer.from('tar\0')],
      ],
    }),
  );
  assert.equal(entry.name, `${'p'.repeat(131)}/b`);
  assert.deepEqual(entry.atime, { sec: 10, nsec: 0 });
});

test('TarParser accepts numbers with blanks, without terminators and in base-256', () => {
  assert.equal(only(rawHeader({ uid: '   755 \0' })).uid, 0o755);
  assert.equal(only(rawHeader({ uid: '12345670' })).uid, 0o12345670);
  assert.equal(only(rawHeader({ uid: Buffer.alloc(8) })).uid, 0);
  assert.equal(only(rawHeader({ uid: base256(4294967294, 8) })).uid, 4294967294);
  assert.deepEqual(only(rawHeader({ mtime: base256(-5, 12) })).mtime, { sec: -5, nsec: 0 });
});

test('TarParser refuses numbers that are not octal', () => {
  for (const uid of ['1 2', '9', 'abc', '-1', '0x10']) {
    assert.throws(() => only(rawHeader({ uid })), refusal('archive.malformed', /user id/), uid);
  }
});

test('TarParser accepts a checksum over signed bytes', () => {
  const block = rawHeader({ name: Buffer.from('caf\xe9', 'latin1') });
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte > 127 ? byte - 256 : byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  assert.equal(only(block).name, 'caf\xe9');
});

test('TarParser applies GNU long names and link targets to the next member only', () => {
  const name = `${'d/'.repeat(120)}f`;
  const target = 't'.repeat(300);
  const members = readTar(
    Buffer.concat([
      rawGnuLong('K', target),
      rawGnuLong('L', name),
      rawHeader({ name: 'cut', type: '2', linkName: 'cut', magic: 'gnu' }),
      rawHeader({ name: 'next', type: '2', linkName: 'x', magic: 'gnu' }),
      rawEnd(),
    ]),
  );
  assert.deepEqual(
    members.map(({ entry }) => [entry.name, entry.linkName]),
    [
      [name, target],
      ['next', 'x'],
    ],
  );
});

test('TarParser applies PAX records to the next member only', () => {
  const members = readTar(
    Buffer.concat([
      rawPax([
        ['path', 'long/name'],
        ['uid', '4294967294'],
        ['gid', '70000'],
        ['mtime', '-1.5'],
        ['atime', '1.000000001999'],
        ['ctime', '5'],
        ['comment', 'nothing'],
        ['size', '3'],
        ['linkpath', 'unused'],
        ['mode', '777'],
      ]),
      rawFile('abc', { size: 0, name: 'short', uid: 1 }),
      rawHeader({ name: 'next', uid: 1 }),
      rawEnd(),
    ]),
  );
  const [first, second] = members;
  assert.ok(first && second);
  assert.equal(first.entry.name, 'long/name');
  assert.equal(first.entry.linkName, '');
  assert.equal(first.entry.uid, 4294967294);
  assert.equal(first.entry.gid, 70000);
  assert.deepEqual(first.entry.mtime, { sec: -2, nsec: 500_000_000 });
  assert.deepEqual(first.entry.atime, { sec: 1, nsec: 1 });
  assert.equal(contentOf(first).toString(), 'abc');
  assert.equal(second.entry.name, 'next');
  assert.equal(second.entry.uid, 1);
  assert.deepEqual(second.entry.mtime, { sec: 0, nsec: 0 });
});

test('TarParser keeps the header field for an empty PAX value', () => {
  const entry = only(
    rawPax([
      ['path', ''],
      ['mtime', ''],
    ]),
    rawHeader({ name: 'n', mtime: 7 }),
  );
  assert.equal(entry.name, 'n');
  assert.equal(entry.mtime.sec, 7);
});

test('TarParser reads PAX times exactly', () => {
  const table: [text: string, sec: number, nsec: number][] = [
    ['0', 0, 0],
    ['-0.5', -1, 500_000_000],
    ['-1', -1, 0],
    ['1350244992.023960108', 1350244992, 23960108],
    ['1.', 1, 0],
    ['1.5', 1, 500_000_000],
    ['-1.000000001', -2, 999_999_999],
    ['885029622400', 885029622400, 0],
  ];
  for (const [text, sec, nsec] of table) {
    assert.deepEqual(only(rawPax([['mtime', text]]), rawHeader()).mtime, { sec, nsec }, text);
  }
});

test('TarParser reads xattrs as bytes, in the SCHILY and the LIBARCHIVE form', () => {
  const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
  const entry = only(
    rawPax([
      ['SCHILY.xattr.security.capability', capability],
      ['LIBARCHIVE.xattr.security.capability', Buffer.from('other').toString('base64')],
      ['LIBARCHIVE.xattr.user.%3D%ff', capability.toString('base64').replace(/=+$/, '')],
      ['SCHILY.xattr.user.empty', ''],
      ['SCHILY.xattr.user.lines', 'a=b\n7 x=y\n'],
    ]),
    rawHeader(),
  );
  assert.deepEqual(entry.xattrs, [
    { name: 'security.capability', value: capability },
    { name: 'user.=\xff', value: capability },
    { name: 'user.empty', value: Buffer.alloc(0) },
    { name: 'user.lines', value: Buffer.from('a=b\n7 x=y\n') },
  ]);
});

test('TarParser prefers the SCHILY form of an xattr that comes after the LIBARCHIVE form', () => {
  const entry = only(
    rawPax([
      ['LIBARCHIVE.xattr.user.a', 'b3RoZXI='],
      ['SCHILY.xattr.user.a', 'raw'],
    ]),
    rawHeader(),
  );
  assert.deepEqual(entry.xattrs, [{ name: 'user.a', value: Buffer.from('raw') }]);
});

const SEGMENTS = Buffer.from('AAAABBBBCC');

test('TarParser expands old GNU sparse headers with extension blocks', () => {
  const pairs: [number, number][] = [];
  for (let i = 0; i < 30; i++) pairs.push([i * 100, 2]);
  pairs.push([4000, 0]);
  const stored = Buffer.alloc(60, 'xy');
  const extension = Buffer.alloc(1024);
  rawSparsePairs(pairs.slice(4, 25)).copy(extension, 0);
  extension[504] = 1;
  rawSparsePairs(pairs.slice(25)).copy(extension, 512);
  const archive = Buffer.concat([
    rawHeader({
      magic: 'gnu',
      type: 'S',
      size: 60,
      patches: [
        [386, rawSparsePairs(pairs.slice(0, 4))],
        [482, Buffer.from([1])],
        [483, Buffer.from('00000007640\0')],
      ],
    }),
    extension,
    padded(stored),
    rawFile('next', { name: 'next' }),
    rawEnd(),
  ]);
  const [sparse, next] = readTar(archive);
  assert.ok(sparse && next);
  assert.equal(sparse.entry.size, 4000);
  const want = Buffer.alloc(4000);
  for (let i = 0; i < 30; i++) want.write('xy', i * 100);
  assert.deepEqual(contentOf(sparse), want);
  assert.equal(sparse.pieces.length, 30);
  assert.equal(contentOf(next).toString(), 'next');
});

test('TarParser expands PAX sparse files of versions 0.0, 0.1 and 1.0', () => {
  const map10 = padded('3\n10\n4\n600\n4\n1000\n2\n');
  const table: [version: string, archive: Buffer][] = [
    [
      '0.0',
      Buffer.concat([
        rawPax([
          ['GNU.sparse.size', '1100'],
          ['GNU.sparse.numblocks', '3'],
          ['GNU.sparse.offset', '10'],
          ['GNU.sparse.numbytes', '4'],
          ['GNU.sparse.offset', '600'],
          ['GNU.sparse.numbytes', '4'],
          ['GNU.sparse.offset', '1000'],
          ['GNU.sparse.numbytes', '2'],
        ]),
        rawFile(SEGMENTS, { name: 'real' }),
      ]),
    ],
    [
      '0.1',
      Buffer.concat([
        rawPax([
          ['GNU.sparse.size', '1100'],
          ['GNU.sparse.numblocks', '3'],
          ['GNU.sparse.map', '10,4,600,4,1000,2'],
          ['GNU.sparse.name', 'real'],
          ['path', 'GNUSparseFile.0/real'],
        ]),
        rawFile(SEGMENTS),
      ]),
    ],
    [
      '1.0',
      Buffer.concat([
        rawPax([
          ['GNU.sparse.major', '1'],
          ['GNU.sparse.minor', '0'],
          ['GNU.sparse.name', 'real'],
          ['GNU.sparse.realsize', '1100'],
        ]),
        rawFile(Buffer.concat([map10, SEGMENTS])),
      ]),
    ],
  ];
  const want = Buffer.alloc(1100);
  want.write('AAAA', 10);
  want.write('BBBB', 600);
  want.write('CC', 1000);
  for (const [version, archive] of table) {
    for (const chunkSizes of [[1e6], [1], [511, 3]]) {
      const [member, next] = readTar(
        Buffer.concat([archive, rawHeader({ name: 'next' }), rawEnd()]),
        { chunkSizes },
      );
      assert.ok(member && next, version);
      assert.equal(member.entry.name, 'real', version);
      assert.deepEqual(contentOf(member), want, version);
      assert.equal(next.entry.name, 'next', version);
    }
  }
});

test('TarParser keeps the size of a sparse file that is one hole', () => {
  const [v01] = readTar(
    Buffer.concat([
      rawPax([
        ['GNU.sparse.size', '5'],
        ['GNU.sparse.numblocks', '0'],
      ]),
      rawHeader(),
    ]),
  );
  assert.deepEqual([v01?.entry.size, v01?.pieces], [5, []]);
  const [v10] = readTar(
    Buffer.concat([
      rawPax([
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.realsize', '5'],
      ]),
      rawFile(padded('0\n')),
    ]),
  );
  assert.deepEqual([v10?.entry.size, v10?.pieces], [5, []]);
});

test('TarParser hands content on in place, in pieces as large as the chunk', () => {
  const archive = rawFile(Buffer.alloc(100_000, 7));
  const seen: [sameChunk: boolean, start: number, end: number, offset: number][] = [];
  const parser = new TarParser({
    entry() {},
    data(chunk, start, end, offset) {
      seen.push([chunk === archive, start, end, offset]);
    },
    fileEnd() {},
  });
  parser.push(archive);
  parser.finish();
  assert.deepEqual(seen, [[true, 512, 100_512, 0]]);
});

test('TarParser throws its first fault again on every later call', () => {
  const fault = new Error('disk full');
  const parser = new TarParser({
    entry() {
      throw fault;
    },
    data() {},
    fileEnd() {},
  });
  assert.throws(() => parser.push(rawHeader()), fault);
  assert.throws(() => parser.push(rawHeader()), fault);
  assert.throws(() => parser.finish(), fault);
});

test('TarParser reads an empty archive and an empty stream', () => {
  assert.deepEqual(readTar(rawEnd()), []);
  assert.deepEqual(readTar(Buffer.alloc(0)), []);
});
