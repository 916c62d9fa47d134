import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  linkSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { RecentErrors } from '../../src/cli/serve/recent-errors.ts';
import { createLog, type ServiceLog } from '../../src/cli/logging/create-log.ts';
import { LineSink } from '../../src/cli/logging/line-sink.ts';
import { createRedact } from '../../src/cli/logging/redact.ts';
import { BuilderdError } from '../../src/core/errors.ts';

function makeLog(
  format: 'json' | 'text' = 'json',
  level: 'debug' | 'warn' = 'debug',
  secrets: readonly string[] = [],
): { log: ServiceLog; lines: string[] } {
  const lines: string[] = [];
  const log = createLog({
    level,
    format,
    sink: { write: (line) => lines.push(line) },
    redact: createRedact(secrets),
    process: 'api',
  });
  return { log, lines };
}

const record = (line: string | undefined): Record<string, unknown> =>
  JSON.parse(line ?? 'null') as Record<string, unknown>;

test('a JSON line has the level in upper case, the time, the process, the fields and the message', () => {
  const { log, lines } = makeLog();
  log.child({ buildId: 'b-1', tenant: 'acme' }).error(
    {
      build_status: 'failed',
      err: new BuilderdError('build.timeout', 'Cannot build: it took too long'),
    },
    'Build ended',
  );
  const { time, err, ...rest } = record(lines[0]);
  assert.match(String(time), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  assert.deepEqual(rest, {
    level: 'ERROR',
    process: 'api',
    buildId: 'b-1',
    tenant: 'acme',
    build_status: 'failed',
    msg: 'Build ended',
  });
  assert.deepEqual(err, {
    code: 'build.timeout',
    message: 'Cannot build: it took too long',
    hint: 'Raise the time limit or make the build smaller.',
  });
  // The guide's searches.
  for (const pattern of [
    /ERROR/,
    /build_status.*failed/,
    /timeout\|slow\|high/.source.split('\\|')[0] ?? '',
  ])
    assert.match(lines[0] ?? '', new RegExp(pattern));
});

test('a fault of ours shows its stack and causes, an expected one does not', () => {
  const { log, lines } = makeLog();
  log.warn({ err: new TypeError('x is not a function', { cause: new Error('inner') }) }, 'Odd');
  log.warn({ err: new BuilderdError('api.not_found', 'Cannot find it') }, 'Usual');
  const [odd, usual] = lines.map((line) => record(line)['err'] as Record<string, unknown>);
  assert.match(String(odd?.['stack']), /TypeError/);
  assert.deepEqual(odd?.['causes'], ['inner']);
  assert.equal(usual?.['stack'], undefined);
});

test('setLevel() counts for children that were made before', () => {
  const { log, lines } = makeLog('json', 'warn');
  const child = log.child({ role: 'api' });
  child.info({}, 'unseen');
  log.setLevel('debug');
  child.debug({}, 'seen');
  log.setLevel('error');
  child.warn({}, 'unseen');
  child.error({}, 'seen too');
  assert.deepEqual(
    lines.map((line) => record(line)['msg']),
    ['seen', 'seen too'],
  );
});

test('a text line holds the same and never a second line', () => {
  const { log, lines } = makeLog('text');
  log.warn(
    { tenant: 'a b', build_status: 'failed', err: 'one\ntwo \u001b[31m\u2028' },
    'Build ended',
  );
  assert.match(
    lines[0] ?? '',
    /^\d{4}\S+Z WARN Build ended process=api tenant="a b" build_status=failed err=.*\n$/,
  );
  assert.equal((lines[0] ?? '').split('\n').length, 2);
  assert.doesNotMatch(lines[0] ?? '', /[\u001b\u2028]/);
});

const LEAKS: readonly string[] = [
  'postgres://builderd:s3cr3t-word@db:5432/x',
  'Authorization: Bearer s3cr3t-word-0123456789',
  'https://host/path?X-Amz-Signature=s3cr3t-word&x=1',
  'https://host/?access_token=s3cr3t-word',
  'eyJhbGciOiJFUzI1NiJ9.s3cr3tword0123456789.s3cr3tword',
  'AGE-SECRET-KEY-1S3CR3TWORD0123456789ABCDEF',
  '-----BEGIN PRIVATE KEY-----\ns3cr3t-word\n-----END PRIVATE KEY-----',
];
for (const leak of LEAKS) {
  test(`a log line masks what looks like ${leak.slice(0, 24)}`, () => {
    for (const format of ['json', 'text'] as const) {
      const { log, lines } = makeLog(format);
      log.error({ err: new Error(`failed: ${leak}`) }, 'Failed');
      assert.doesNotMatch(lines.join(''), /s3cr3t/i);
      assert.match(lines.join(''), /\*\*\*/);
    }
  });
}

test('known secrets are masked wherever and however they stand', () => {
  fc.assert(
    fc.property(
      fc
        .string({ minLength: 6, maxLength: 40 })
        .filter((text) => text.trim().length >= 6 && !/^\*+$/.test(text)),
      (secret) => {
        const redact = createRedact([secret]);
        for (const shown of [JSON.stringify({ a: secret }), JSON.stringify([`a ${secret} b`])]) {
          const masked = redact(shown);
          assert.ok(
            !JSON.stringify(JSON.parse(masked)).includes(JSON.stringify(secret).slice(1, -1)),
            shown,
          );
        }
      },
    ),
  );
});

test('redaction takes linear time on hostile text', () => {
  const redact = createRedact([]);
  for (const text of [
    `${'a'.repeat(200_000)}://`,
    `x://${':'.repeat(200_000)}`,
    `-----BEGIN ${'A '.repeat(50_000)}`,
    'eyJ'.repeat(60_000),
  ]) {
    assert.equal(typeof redact(text), 'string');
  }
});

test('a reader that does not read costs lines, which are counted and told when it reads again', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'bd-sink-'));
  const fifo = path.join(dir.path, 'pipe');
  execFileSync('mkfifo', [fifo]);
  const reader = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
  const target = openSync(fifo, constants.O_WRONLY);
  let lost = 0;
  const sink = new LineSink({
    target: { fd: target },
    maxBufferedBytes: 256 * 1024,
    onDrop: (lines) => {
      lost += lines;
    },
    describeDrops: (lines) => `lost ${lines}\n`,
  });
  const line = `${'x'.repeat(1023)}\n`;
  try {
    for (let count = 0; count < 2000; count += 1) sink.write(line);
    // The loop turns although nobody reads.
    await sleep(20);
    assert.ok(lost > 1000, `${lost} lost`);
    const before = lost;
    let text = '';
    const buffer = Buffer.alloc(65_536);
    while (!text.includes('lost ')) {
      try {
        text += buffer.toString('latin1', 0, readSync(reader, buffer));
      } catch {
        await sleep(5);
      }
      sink.write('after\n');
    }
    assert.match(text, new RegExp(`^lost ${before}$`, 'm'));
    const whole = text.split('\n').filter((each) => each.startsWith('x')).length;
    assert.equal(whole + before, 2000);
  } finally {
    closeSync(reader);
    closeSync(target);
  }
});

test('a sink whose reader is gone drops and goes on', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'bd-sink-'));
  const fifo = path.join(dir.path, 'pipe');
  execFileSync('mkfifo', [fifo]);
  const reader = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
  const target = openSync(fifo, constants.O_WRONLY);
  let lost = 0;
  const sink = new LineSink({
    target: { fd: target },
    maxBufferedBytes: 4096,
    onDrop: (lines) => (lost += lines),
    describeDrops: () => '',
  });
  closeSync(reader);
  for (let count = 0; count < 3; count += 1) {
    sink.write('x\n');
    await sleep(5);
  }
  closeSync(target);
  assert.equal(lost, 3);
});

test('a log file is appended to, and opened anew after a rotation', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'bd-sink-'));
  const file = path.join(dir.path, 'log');
  const old = openSync(file, 'w');
  writeSync(old, 'old\n');
  closeSync(old);
  const sink = new LineSink({
    target: { file },
    maxBufferedBytes: 4096,
    onDrop: () => assert.fail('dropped'),
    describeDrops: () => '',
  });
  sink.write('one\n');
  await sink.flush(1000);
  renameSync(file, `${file}.1`);
  sink.reopen();
  sink.write('two\n');
  await sink.flush(1000);
  assert.equal(readFileSync(`${file}.1`, 'utf8'), 'old\none\n');
  assert.equal(readFileSync(file, 'utf8'), 'two\n');
});

test('a log file that is a symlink is refused', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'bd-sink-'));
  const file = path.join(dir.path, 'log');
  execFileSync('ln', ['-s', '/etc/hostname', file]);
  assert.throws(
    () =>
      new LineSink({
        target: { file },
        maxBufferedBytes: 1,
        onDrop: () => undefined,
        describeDrops: () => '',
      }),
    { code: 'ELOOP' },
  );
});

test('RecentErrors keeps the last fifty, newest first, with the fields of children, masked', () => {
  const { log } = makeLog();
  const errors = new RecentErrors(createRedact(['hunter2-word']));
  const watched = errors.watch(log);
  for (let count = 0; count < 60; count += 1)
    watched.child({ tenant: `t${count}` }).warn({ err: new Error('hunter2-word') }, 'Odd');
  watched.info({}, 'Fine');
  const kept = errors.list();
  assert.equal(kept.length, 50);
  assert.equal(kept[0]?.fields['tenant'], 't59');
  assert.doesNotMatch(JSON.stringify(kept), /hunter2/);
});

test('LineSink refuses a log file that somebody prepared: a pipe, or another name of a file', async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'bd-log-'));
  const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const pipe = path.join(dir.path, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const linked = path.join(dir.path, 'linked');
  closeSync(openSync(linked, 'w'));
  linkSync(linked, path.join(dir.path, 'other-name'));
  for (const file of [pipe, linked]) {
    assert.throws(
      () =>
        new LineSink({
          target: { file, owner },
          maxBufferedBytes: 1000,
          describeDrops: () => '',
          onDrop: () => undefined,
        }),
      /ENXIO|no file of the service user's alone/,
    );
  }
});
