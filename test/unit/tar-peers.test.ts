import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ByteString, bytesFrom, toBuffer } from '../../src/core/bytes.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { encodeHeader, endOfArchive, padding } from '../../src/tar/writer.ts';
import { arbitraryTarEntry, withSortedXattrs } from '../fixtures/arbitrary-tar-entry.ts';
import { contentOf, type ReadMember, readTar } from '../fixtures/read-tar.ts';

// Without the locale and zone of whoever runs the test.
const ENV = { PATH: process.env['PATH'] ?? '', LC_ALL: 'C', TZ: 'UTC' };

function run(command: string, args: readonly string[], cwd?: string, input?: Buffer): Buffer {
  const result = spawnSync(command, args, {
    env: ENV,
    maxBuffer: 1 << 26,
    ...(cwd === undefined ? undefined : { cwd }),
    ...(input === undefined ? undefined : { input }),
  });
  if (result.error !== undefined) throw result.error;
  assert.equal(result.status, 0, `${command} ${args.join(' ')}: ${result.stderr.toString()}`);
  return result.stdout;
}

const has = (command: string): boolean =>
  spawnSync(command, ['--version'], { env: ENV }).error === undefined;

function tempDirectory(): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), 'builderd-tar-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

const LONG = `${'long-directory-name/'.repeat(12)}file`;
const RAW_NAME = Buffer.from([0x72, 0x61, 0x77, 0xff, 0xe9]);

/** A tree with what the given format can hold. */
function makeTree(root: string, full: boolean): void {
  writeFileSync(join(root, 'empty'), '');
  writeFileSync(join(root, 'text'), 'hello\n'.repeat(1000), { mode: 0o640 });
  linkSync(join(root, 'text'), join(root, 'second-name'));
  symlinkSync('text', join(root, 'link'));
  lutimesSync(join(root, 'link'), 5, 5);
  mkdirSync(join(root, 'd'), { mode: 0o1777 });
  writeFileSync(join(root, 'd', 'new\nline'), 'x');
  writeFileSync(Buffer.concat([Buffer.from(`${root}/`), RAW_NAME]), 'raw');
  utimesSync(join(root, 'text'), 1.25, 1_234_567_890.5);
  if (!full) return;
  mkdirSync(join(root, 'long-directory-name/'.repeat(12)), { recursive: true });
  writeFileSync(join(root, LONG), 'deep');
  symlinkSync(LONG, join(root, 'long-link'));
  run('mkfifo', [join(root, 'fifo')]);
  const sparse = openSync(join(root, 'sparse'), 'w');
  for (let i = 0; i < 60; i++) writeSync(sparse, `island ${i}`, i * 131072 + 70000);
  ftruncateSync(sparse, 9_000_000);
  closeSync(sparse);
  const hole = openSync(join(root, 'hole'), 'w');
  ftruncateSync(hole, 3_000_000);
  closeSync(hole);
}

function assertSameAsDisk(root: string, member: ReadMember, wholeSeconds: boolean): void {
  const { entry } = member;
  const path = Buffer.concat([Buffer.from(`${root}/`), toBuffer(entry.name)]);
  const stat = lstatSync(path, { bigint: true });
  const kind = stat.isDirectory()
    ? 'dir'
    : stat.isSymbolicLink()
      ? 'symlink'
      : stat.isFIFO()
        ? 'fifo'
        : 'file';
  assert.equal(entry.kind === 'hardlink' ? 'file' : entry.kind, kind, entry.name);
  if (entry.kind === 'hardlink') {
    assert.equal(lstatSync(join(root, entry.linkName), { bigint: true }).ino, stat.ino);
    return;
  }
  const ns = stat.mtimeNs;
  const sec = ns >= 0n ? ns / 1_000_000_000n : (ns - 999_999_999n) / 1_000_000_000n;
  assert.deepEqual(
    {
      mode: entry.mode,
      uid: entry.uid,
      gid: entry.gid,
      mtime: entry.mtime,
      linkName: Buffer.from(entry.linkName, 'latin1'),
    },
    {
      mode: Number(stat.mode & 0o7777n),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      mtime: { sec: Number(sec), nsec: wholeSeconds ? 0 : Number(ns - sec * 1_000_000_000n) },
      linkName: kind === 'symlink' ? readlinkSync(path, 'buffer') : Buffer.alloc(0),
    },
    entry.name,
  );
  if (kind !== 'file') return;
  assert.ok(contentOf(member).equals(readFileSync(path)), `content of ${entry.name}`);
}

const GNU_FORMATS: [name: string, args: string[], full: boolean][] = [
  ['v7', ['--format=v7'], false],
  ['ustar', ['--format=ustar'], false],
  ['oldgnu', ['--format=oldgnu', '--sparse'], true],
  ['gnu', ['--format=gnu', '--sparse'], true],
  ['gnu incremental times', ['--format=gnu', '--sparse', '--atime-preserve=replace'], true],
  ['posix', ['--format=posix'], true],
  ['posix sparse 0.0', ['--format=posix', '--sparse', '--sparse-version=0.0'], true],
  ['posix sparse 0.1', ['--format=posix', '--sparse', '--sparse-version=0.1'], true],
  ['posix sparse 1.0', ['--format=posix', '--sparse', '--sparse-version=1.0'], true],
];

for (const [format, args, full] of GNU_FORMATS) {
  test(`TarParser reads what GNU tar writes as ${format}`, () => {
    using directory = tempDirectory();
    makeTree(directory.path, full);
    const archive = run('tar', [...args, '-cf', '-', '.'], directory.path);
    const members = readTar(archive);
    const onDisk = run('find', ['.', '-print0'], directory.path);
    assert.equal(members.length, onDisk.filter((byte) => byte === 0).length);
    const wholeSeconds = !format.startsWith('posix');
    for (const member of members) assertSameAsDisk(directory.path, member, wholeSeconds);
    if (args.includes('--sparse')) {
      const sparse = members.find(({ entry }) => entry.name === './sparse');
      assert.equal(sparse?.pieces.length, 60, 'holes are not reported as data');
    }
    assert.deepEqual(readTar(archive, { chunkSizes: [777] }), members);
  });
}

test('TarParser reads what bsdtar writes', { skip: !has('bsdtar') && 'no bsdtar' }, () => {
  using directory = tempDirectory();
  makeTree(directory.path, true);
  for (const format of ['pax', 'gnutar']) {
    const members = readTar(run('bsdtar', [`--format=${format}`, '-cf', '-', '.'], directory.path));
    const onDisk = run('find', ['.', '-print0'], directory.path);
    assert.equal(members.length, onDisk.filter((byte) => byte === 0).length);
    for (const member of members) {
      assertSameAsDisk(directory.path, member, format === 'gnutar');
    }
  }
});

const XATTRS: [name: string, value: Buffer][] = [
  ['user.binary', Buffer.from([0, 1, 10, 61, 255, 0])],
  ['user.empty', Buffer.alloc(0)],
];

test('extended attributes go to GNU tar and come back from it to the byte', (t) => {
  using directory = tempDirectory();
  const file = join(directory.path, 'file');
  writeFileSync(file, 'x');
  const set = spawnSync('setfattr', ['-n', 'user.test', '-v', '1', file], { env: ENV });
  if (set.status !== 0) return t.skip('no setfattr, or no user xattrs in the temporary directory');
  run('setfattr', ['-x', 'user.test', file]);
  for (const [name, value] of XATTRS) {
    run('setfattr', ['-n', name, '-v', `0x${value.toString('hex')}`, file]);
  }
  const [member] = readTar(
    run('tar', ['--format=posix', '--xattrs', '-cf', '-', 'file'], directory.path),
  );
  assert.ok(member);
  const { xattrs } = withSortedXattrs(member.entry);
  assert.deepEqual(
    xattrs.map(({ name, value }) => [name, value]),
    XATTRS,
  );
  const archive = Buffer.concat([
    encodeHeader({ ...member.entry, name: 'copy' as ByteString }),
    Buffer.from('x'),
    padding(1),
    endOfArchive(),
  ]);
  run('tar', ['--xattrs', '-xf', '-'], directory.path, archive);
  const dump = run('getfattr', ['-d', '-e', 'hex', 'copy'], directory.path).toString();
  for (const [name, value] of XATTRS) {
    const hex = value.length === 0 ? '' : `=0x${value.toString('hex')}`;
    assert.match(dump, new RegExp(`^${name}${hex}(=""|=0x)?$`, 'm'));
  }
});

interface Listed {
  readonly mode: string;
  readonly ids: string;
  readonly sizeOrDevice: string;
  readonly time: string;
  readonly name: string;
  readonly link: string;
}

const LETTERS = {
  file: '-',
  dir: 'd',
  symlink: 'l',
  hardlink: 'h',
  char: 'c',
  block: 'b',
  fifo: 'p',
};

/** The line that `tar --list --verbose` should print, in its parts. */
function expected(entry: TarEntry): Listed {
  const { mode, kind } = entry;
  const bit = (mask: number, letter: string): string => ((mode & mask) === 0 ? '-' : letter);
  const special = (mask: number, execute: number, on: string, off: string): string =>
    (mode & mask) === 0 ? bit(execute, 'x') : (mode & execute) === 0 ? off : on;
  const { sec, nsec } = entry.mtime;
  const time = new Date(sec * 1000).toISOString().slice(0, 19).replace('T', ' ');
  return {
    mode:
      // GNU tar lists a file whose name ends with a slash as a directory.
      (kind === 'file' && entry.name.endsWith('/') ? 'd' : LETTERS[kind]) +
      bit(0o400, 'r') +
      bit(0o200, 'w') +
      special(0o4000, 0o100, 's', 'S') +
      bit(0o040, 'r') +
      bit(0o020, 'w') +
      special(0o2000, 0o010, 's', 'S') +
      bit(0o004, 'r') +
      bit(0o002, 'w') +
      special(0o1000, 0o001, 't', 'T'),
    ids: `${entry.uid}/${entry.gid}`,
    sizeOrDevice:
      kind === 'char' || kind === 'block'
        ? `${entry.devMajor},${entry.devMinor}`
        : String(entry.size),
    time: nsec === 0 ? time : `${time}.${String(nsec).padStart(9, '0').replace(/0+$/, '')}`,
    name: entry.name,
    link: entry.linkName,
  };
}

function parseListing(listing: Buffer): Listed[] {
  return bytesFrom(listing)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const match =
        /^(\S+) +(\S+) +(\S+) (\S+ \S+) +"((?:[^"\\]|\\.)*)"(?: (?:->|link to) "((?:[^"\\]|\\.)*)")?$/.exec(
          line,
        );
      assert.ok(match, line);
      const [, mode = '', ids = '', sizeOrDevice = '', time = '', name = '', link = ''] = match;
      return { mode, ids, sizeOrDevice, time, name: unquote(name), link: unquote(link) };
    });
}

const ESCAPES = new Map(Object.entries({ n: 10, t: 9, r: 13, a: 7, b: 8, f: 12, v: 11 }));

/** GNU's --quoting-style=c. */
function unquote(text: string): string {
  return text.replace(/\\([0-7]{3}|.)/g, (_, code: string) =>
    code.length === 3
      ? String.fromCharCode(Number.parseInt(code, 8))
      : String.fromCharCode(ESCAPES.get(code) ?? code.charCodeAt(0)),
  );
}

/**
 * Years that `tar --list` prints with four digits, and sizes that fit a test. No fractions before
 * 1970: GNU tar 1.34 lists them on the wrong side of the second, though it extracts them well.
 */
const listable = arbitraryTarEntry(3000).map((entry): TarEntry => {
  const sec = entry.mtime.sec % 2 ** 34;
  return { ...entry, mtime: { sec, nsec: sec < 0 ? 0 : entry.mtime.nsec } };
});

test('GNU tar lists every entry that encodeHeader() writes with all its fields', () => {
  fc.assert(
    fc.property(fc.array(listable, { minLength: 30, maxLength: 60 }), (entries) => {
      const archive = Buffer.concat([
        ...entries.flatMap((entry) => [
          encodeHeader(entry),
          Buffer.alloc(entry.size, 1),
          padding(entry.size),
        ]),
        endOfArchive(),
      ]);
      const args = ['-tvP', '--numeric-owner', '--full-time', '--quoting-style=c', '-f', '-'];
      const listing = parseListing(run('tar', args, undefined, archive));
      assert.deepEqual(listing, entries.map(expected));
    }),
    { numRuns: 5 },
  );
});

test('GNU tar finds the member behind a file of 9 GiB', () => {
  using directory = tempDirectory();
  const base: Omit<TarEntry, 'name' | 'size'> = {
    kind: 'file',
    linkName: '' as ByteString,
    mode: 0o600,
    uid: 0,
    gid: 0,
    mtime: { sec: 0, nsec: 0 },
    xattrs: [],
    devMajor: 0,
    devMinor: 0,
  };
  const size = 9 * 2 ** 30 + 1;
  const first = encodeHeader({ ...base, name: 'big' as ByteString, size });
  const second = encodeHeader({ ...base, name: 'small' as ByteString, size: 0 });
  const path = join(directory.path, 'big.tar');
  const fd = openSync(path, 'w');
  writeSync(fd, first);
  writeSync(fd, second, 0, second.length, first.length + size + padding(size).length);
  closeSync(fd);
  assert.match(
    run('tar', ['-tvf', path]).toString(),
    /^-rw------- \S+ +9663676417 .* big\n-rw------- \S+ +0 .* small\n$/,
  );
});

function symlinkEntry(name: string, change: Partial<TarEntry>): TarEntry {
  return {
    kind: 'symlink',
    name: name as ByteString,
    linkName: 'target' as ByteString,
    mode: 0o777,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: { sec: 1_234_567_890, nsec: 123_456_789 },
    xattrs: [],
    devMajor: 0,
    devMinor: 0,
    ...change,
  };
}

test('GNU tar extracts a fractional time before 1970', () => {
  using directory = tempDirectory();
  const entry = symlinkEntry('old', { mtime: { sec: -2, nsec: 250_000_000 } });
  run('tar', ['-xf', '-'], directory.path, Buffer.concat([encodeHeader(entry), endOfArchive()]));
  const { mtimeNs } = lstatSync(join(directory.path, 'old'), { bigint: true });
  assert.equal(mtimeNs, -1_750_000_000n);
});

test('bsdtar reads the names, times and targets that encodeHeader() writes', {
  skip: !has('bsdtar') && 'no bsdtar',
}, () => {
  using directory = tempDirectory();
  const entries = [
    symlinkEntry('plain', {}),
    symlinkEntry('caf\xe9\xff', {}),
    symlinkEntry('caf\xc3\xa9', { linkName: '\xff\xfe' as ByteString }),
    // No fraction: libarchive 3.6 adds the fraction of a negative time instead of taking it off.
    symlinkEntry('new\nline', { mtime: { sec: -2, nsec: 0 } }),
    symlinkEntry(`${'d'.repeat(200)}/${'n'.repeat(200)}`, {
      linkName: 't'.repeat(900) as ByteString,
    }),
  ];
  const archive = Buffer.concat([...entries.map(encodeHeader), endOfArchive()]);
  run('bsdtar', ['-xf', '-'], directory.path, archive);
  for (const { name, linkName, mtime } of entries) {
    const path = Buffer.concat([Buffer.from(`${directory.path}/`), toBuffer(name)]);
    assert.deepEqual(readlinkSync(path, 'buffer'), toBuffer(linkName), name);
    const ns = BigInt(mtime.sec) * 1_000_000_000n + BigInt(mtime.nsec);
    assert.equal(lstatSync(path, { bigint: true }).mtimeNs, ns, name);
  }
});
