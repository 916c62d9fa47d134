import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isBuilderdError } from '../../src/core/errors.ts';
import { TIER_QUOTAS } from '../../src/core/quotas.ts';
import { safeJson } from '../../src/cli/ctl/client/bounded-json.ts';
import { readEvents, type StreamEvent } from '../../src/cli/ctl/client/event-stream.ts';
import { json, list, map, object, optional, text } from '../../src/cli/ctl/client/fields.ts';
import { faultOfAnswer } from '../../src/cli/ctl/client/remote-fault.ts';
import { parseServerUrl } from '../../src/cli/ctl/client/server-url.ts';
import { parseSeconds } from '../../src/cli/ctl/command-kit.ts';
import { toBuildSpec, toSource } from '../../src/cli/ctl/commands/build-spec-options.ts';
import { parseQuotaPairs, QUOTA_KINDS } from '../../src/cli/ctl/quota-values.ts';
import { parseToken } from '../../src/cli/ctl/contexts/secret-input.ts';
import { quotaText } from '../../src/cli/ctl/view/quota-text.ts';
import { logText } from '../../src/cli/ctl/view/log-text.ts';
import { facts, table } from '../../src/cli/ctl/view/table.ts';
import { told } from '../../src/cli/ctl/view/told.ts';

/** All that a terminal obeys, and all that starts a line. */
// oxlint-disable-next-line no-control-regex -- exactly those are looked for
const OBEYED =
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;
const foreign = fc.string({ unit: 'binary', maxLength: 60 });

test('parseQuotaPairs() reads every quota in units for people', () => {
  const cases: readonly (readonly [string, unknown])[] = [
    ['maxStorageBytes=20GiB', 20 * 1024 ** 3],
    ['maxDiskBytes=512M', 512 * 1024 ** 2],
    ['maxBuildMinutes=1h30m', 90],
    ['maxBuildMinutes=45', 45],
    ['timeoutSeconds=30m', 1800],
    ['retentionDays=30d', 30],
    ['maxCpuCores=1.5', 1.5],
    ['encryption=true', true],
    ['allowedRegistries=docker.io, ghcr.io', ['docker.io', 'ghcr.io']],
    ['allowedGitHosts=', []],
    ['weight=default', null],
  ];
  for (const [pair, value] of cases) {
    assert.deepEqual(Object.values(parseQuotaPairs([pair])), [value], pair);
  }
  for (const bad of [
    'maxBuildMinutes=90s',
    'weight=1.5',
    'encryption=yes',
    'maxCpuCores=-1',
    'maxDisk=1',
    'weight',
    '=1',
    '__proto__=1',
  ]) {
    assert.throws(
      () => parseQuotaPairs([bad]),
      (reason) => isBuilderdError(reason, 'usage.invalid'),
      bad,
    );
  }
  assert.throws(() => parseQuotaPairs(['weight=1', 'weight=2']), /each key once/);
});

test('quotaText() shows every quota of every tier in a form that quota set takes back', () => {
  for (const quotas of Object.values(TIER_QUOTAS)) {
    for (const [key, value] of Object.entries(quotas)) {
      assert.ok(Object.hasOwn(QUOTA_KINDS, key), key);
      const shown = quotaText(key, value)
        .replace(/^none$/, '')
        .replace(/ min$/, 'm')
        .replaceAll(' ', '');
      assert.deepEqual(parseQuotaPairs([`${key}=${shown}`]), { [key]: value });
    }
  }
});

test('quotaText() shows what a newer or a hostile server sends as a quota', () => {
  const bare: unknown = Object.assign(Object.create(null), { limit: 1 });
  const cases: readonly (readonly [value: unknown, want: string])[] = [
    [bare, '{"limit":1}'],
    [[bare], '[{"limit":1}]'],
    [['a.b', 'c.d'], 'a.b,c.d'],
    [[], 'none'],
    [{ toString: null }, '{"toString":null}'],
    [null, 'null'],
    ['text', 'text'],
  ];
  for (const [value, want] of cases) assert.equal(quotaText('newQuota', value), want);
});

test('parseSeconds() adds units up and refuses the rest', () => {
  assert.deepEqual(
    ['90s', '15m', '1h30m', '30d'].map((each) => parseSeconds(each, 'x')),
    [90, 900, 5400, 2_592_000],
  );
  for (const bad of ['', '5', 'm', '1.5h', '-1s', '1w', '999999999d999999999d']) {
    if (bad.length < 10) assert.throws(() => parseSeconds(bad, 'x'), /want a duration/, bad);
  }
});

test('toSource() sends what a server can fetch, and no login out of a URL', () => {
  assert.deepEqual(toSource('debian:12', {}), { image: { reference: 'debian:12' } });
  assert.deepEqual(toSource('docker://ghcr.io/a/b', { username: 'u', password: 'p' }), {
    image: { reference: 'ghcr.io/a/b', auth: { username: 'u', password: 'p' } },
  });
  assert.deepEqual(toSource('git+https://h/r.git#main:sub/dir', { token: 't' }), {
    git: { url: 'https://h/r.git', ref: 'main', context: 'sub/dir', auth: { token: 't' } },
  });
  assert.deepEqual(toSource('https://h/x.tar.gz#app', {}), {
    archive: { url: 'https://h/x.tar.gz', context: 'app' },
  });
  for (const bad of [
    'oci:./x',
    'dir:.',
    'git+https://u:p@h/r',
    'https://u@h/x',
    'ftp://h/x',
    '',
    'docker://',
  ]) {
    assert.throws(() => toSource(bad, {}), /^BuilderdError: Cannot /, bad);
  }
  assert.throws(() => toSource('https://h/x', { token: 't' }), /fetched without one/);
});

test('toBuildSpec() leaves out what was not given', () => {
  assert.deepEqual(toBuildSpec('a', { lostFound: true }, {}), {
    source: { image: { reference: 'a' } },
  });
  assert.deepEqual(toBuildSpec('a', { lostFound: true, size: '4G' }, {}).target, {
    sizeBytes: 4 * 1024 ** 3,
  });
  const filter = {
    exclude: ['a', 'b'],
    preserve: ['c'],
    removeDocs: true,
    removeCache: true,
  } as const;
  assert.deepEqual(toBuildSpec('a', { lostFound: true, ...filter }, {}).target, filter);
  assert.throws(
    () => toBuildSpec('a', { lostFound: true, label: ['x=1', 'x=2'] }, {}),
    /each key once/,
  );
  assert.throws(
    () => toBuildSpec('a', { lostFound: true, format: 'ext4,ext4' }, {}),
    /each format once/,
  );
});

test('parseServerUrl() keeps a path, and tells plain HTTP over the network', () => {
  const url = parseServerUrl('https://b.example.com/tools/');
  assert.deepEqual(
    [url.origin, url.basePath, url.shown, url.isPlain],
    ['https://b.example.com', '/tools', 'https://b.example.com/tools', false],
  );
  assert.deepEqual(
    ['http://h', 'http://localhost:1', 'http://127.0.0.1', 'http://[::1]:2', 'https://h'].map(
      (each) => parseServerUrl(each).isPlain,
    ),
    [true, false, false, false, false],
  );
  for (const bad of [
    'h',
    'ftp://h',
    'http://u:p@h',
    'http://h?x',
    'http://h#x',
    `http://${'h'.repeat(3000)}`,
  ]) {
    assert.throws(
      () => parseServerUrl(bad),
      (reason) => isBuilderdError(reason, 'usage.invalid') && !reason.message.includes('u:p'),
    );
  }
});

test('parseToken() takes what a header can carry and never repeats the rest', () => {
  assert.equal(parseToken('bld_abc-._~+/==\n'), 'bld_abc-._~+/==');
  for (const bad of ['', 'two words', 'a\nb', 'a\r\nX-Evil: 1', 'é', 'a'.repeat(9000)]) {
    assert.throws(() => parseToken(bad), /^BuilderdError: Cannot use the token: want one line/);
  }
});

test('answers are read field by field: unknown ones are dropped, wrong ones named', () => {
  const parse = object({ a: text, b: optional(list(text)), c: optional(map(text)) });
  assert.deepEqual(
    { ...parse({ a: 'x', b: ['y'], d: 1 }, 'it') },
    { a: 'x', b: ['y'], c: undefined },
  );
  assert.equal(
    Reflect.get(parse(JSON.parse('{"a":"x","c":{"__proto__":"p"}}'), 'it').c ?? {}, '__proto__'),
    'p',
  );
  assert.throws(() => parse({ a: 'x', b: [1] }, 'it'), /it\.b\[0\] is no text/);
  assert.throws(() => parse([], 'it'), /it is no object/);
  assert.throws(() => object({ toString: text })({}, 'it'), /it\.toString is no text/);
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 8 }), (value) => {
      assert.equal(JSON.stringify(json(value, 'it')), JSON.stringify(value));
    }),
  );
});

test('no text of a server gets a control character or a line into what is shown', () => {
  fc.assert(
    fc.property(foreign, foreign, (one, two) => {
      const lines = [
        table(['A', 'B'], [[one, two]]),
        facts([['Name', `${one}x`]]),
        told`${one} and ${two}\n`,
        `${safeJson({ [one]: two })}\n`,
      ];
      for (const shown of lines) assert.doesNotMatch(shown, OBEYED);
      assert.deepEqual(
        lines.map((shown) => shown.split('\n').length),
        [3, 2, 2, 2],
      );
      assert.deepEqual(JSON.parse(lines[3] ?? ''), JSON.parse(JSON.stringify({ [one]: two })));
      const entry = {
        n: 0,
        time: '2026-11-24T00:00:00.000Z',
        level: one,
        component: two,
        message: `${one}\n${two}`,
        metadata: undefined,
      };
      const log = logText(entry);
      assert.doesNotMatch(log, OBEYED);
      for (const line of log.trimEnd().split('\n').slice(1)) assert.match(line, /^ {4}/);
    }),
  );
});

async function* pieces(bytes: Buffer, cuts: readonly number[]): AsyncGenerator<Buffer, void, void> {
  let from = 0;
  for (const cut of cuts.toSorted((a, b) => a - b)) {
    const to = Math.min(cut, bytes.length);
    if (to > from) yield await Promise.resolve(bytes.subarray(from, to));
    from = Math.max(from, to);
  }
  if (from < bytes.length) yield bytes.subarray(from);
}

test('readEvents() gives the same events however the bytes are cut', async () => {
  const bytes = Buffer.from(
    'retry: 2000\n\n: still here\n\nid: 7\nevent: log\ndata: {"x":"é😀"}\n\ndata:a\r\ndata: b\r\n\r\nevent: end\ndata: {}\n\ndata: cut off',
  );
  const wanted: StreamEvent[] = [
    { id: '7', type: 'log', data: '{"x":"é😀"}' },
    { id: undefined, type: 'message', data: 'a\nb' },
    { id: undefined, type: 'end', data: '{}' },
  ];
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(bytes.length), { maxLength: 12 }), async (cuts) => {
      const seen: StreamEvent[] = [];
      for await (const event of readEvents(pieces(bytes, cuts))) seen.push(event);
      assert.deepEqual(seen, wanted);
    }),
  );
});

test('faultOfAnswer() keeps code, hint and exit of a problem, also of a code that is newer', () => {
  const problem = (fields: object, status: number): ReturnType<typeof faultOfAnswer> =>
    faultOfAnswer(
      {
        status,
        mediaType: 'application/problem+json',
        body: JSON.stringify(fields),
        retryAfter: '7',
      },
      'do it',
    );
  const cases: readonly (readonly [object, number, readonly [string, number]])[] = [
    [{ detail: 'Cannot x', code: 'api.forbidden' }, 403, ['api.forbidden', 2]],
    [{ detail: 'Cannot x', code: 'quota.exceeded' }, 429, ['quota.exceeded', 1]],
    [{ detail: 'Cannot x', code: 'service.unavailable' }, 503, ['service.unavailable', 3]],
    [{ detail: 'Cannot x', code: 'moon.full', hint: 'Wait.' }, 422, ['api.invalid', 2]],
    [{ detail: 'Cannot x', code: 'toString' }, 500, ['server.invalid', 3]],
    [{ code: 7 }, 400, ['server.invalid', 3]],
  ];
  for (const [fields, status, [code, exit]] of cases) {
    const fault = problem(fields, status);
    assert.deepEqual([fault.code, fault.entry.exit], [code, exit], JSON.stringify(fields));
  }
  const newer = problem({ detail: 'it is full', code: 'moon.full', hint: 'Wait.' }, 422);
  assert.deepEqual([newer.message, newer.entry.hint], ['Cannot do it: it is full', 'Wait.']);
});
