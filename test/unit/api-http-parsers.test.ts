import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chooseMediaType } from '../../src/api/http/accept.ts';
import { attachment } from '../../src/api/http/content-disposition.ts';
import { digestField } from '../../src/api/http/digest-fields.ts';
import {
  holdsIfRange,
  matchesTag,
  parseIfMatch,
  strongTag,
} from '../../src/api/http/entity-tag.ts';
import { hostNameOf, isAllowedHost, isCrossSite } from '../../src/api/http/host-policy.ts';
import { parseLabelSelector } from '../../src/api/http/label-selector.ts';
import { parseLastEventId } from '../../src/api/http/last-event-id.ts';
import { typedQuery } from '../../src/api/http/query-values.ts';
import { chooseRange, type RangeChoice } from '../../src/api/http/range.ts';
import { parseDay, parseTime } from '../../src/api/http/time-value.ts';
import { protocolOf } from '../../src/api/server/preface.ts';

const whole: RangeChoice = { kind: 'whole' };
const none: RangeChoice = { kind: 'unsatisfiable' };
const span = (start: number, end: number): RangeChoice => ({ kind: 'span', span: { start, end } });

test('chooseRange() reads one range of bytes and nothing else', () => {
  const table: [header: string | undefined, want: RangeChoice][] = [
    [undefined, whole],
    ['bytes=0-9', span(0, 9)],
    ['bytes=90-', span(90, 99)],
    ['bytes=90-4000', span(90, 99)],
    ['bytes=-5', span(95, 99)],
    ['bytes=-4000', span(0, 99)],
    ['BYTES= 1 - 2 ', none],
    ['bytes= 1-2 ', span(1, 2)],
    ['bytes=0-0,5-5', whole],
    [`bytes=0-${',0-'.repeat(1000)}`, whole],
    ['lines=1-2', whole],
    ['bytes=100-', none],
    ['bytes=9e99-', none],
    [`bytes=${'9'.repeat(99)}-`, none],
    ['bytes=-0', none],
    ['bytes=-', none],
    ['bytes=5-4', none],
    ['bytes=--5', none],
    ['bytes=', none],
  ];
  for (const [header, want] of table)
    assert.deepEqual(chooseRange(header, 100), want, String(header));
  assert.deepEqual(chooseRange('bytes=0-', 0), none);
  assert.deepEqual(chooseRange('bytes=-1', 0), none);
});

test('chooseRange() never gives bytes outside of the artifact, whatever is asked', () => {
  fc.assert(
    fc.property(
      fc.string(),
      fc.nat(),
      fc.nat(1000),
      fc.boolean(),
      (text, first, size, isNumber) => {
        const choice = chooseRange(isNumber ? `bytes=${first}-${text}` : `bytes=${text}`, size);
        if (choice.kind !== 'span') return;
        const { start, end } = choice.span;
        assert.ok(start >= 0 && start <= end && end < size);
      },
    ),
  );
});

test('chooseMediaType() chooses by quality, then exactness, then the order of the offers', () => {
  const offers = ['text/plain', 'application/x-ndjson', 'text/event-stream'] as const;
  const table: [header: string | undefined, want: string | undefined][] = [
    [undefined, 'text/plain'],
    ['', 'text/plain'],
    ['*/*', 'text/plain'],
    ['text/*', 'text/plain'],
    ['text/event-stream', 'text/event-stream'],
    ['Application/X-NDJSON; q=0.4, text/plain;q=0.3', 'application/x-ndjson'],
    ['*/*, text/event-stream', 'text/event-stream'],
    ['text/plain;q=0, */*;q=0.1', 'application/x-ndjson'],
    ['image/png', undefined],
    ['*/*;q=0', undefined],
    ['text/plain;q=2', undefined],
    ['text/html, */*;q=0.8', 'text/plain'],
  ];
  for (const [header, want] of table)
    assert.equal(chooseMediaType(header, offers), want, String(header));
});

test('entity tags: If-None-Match compares weakly, If-Range and If-Match do not', () => {
  const tag = strongTag('sha256:ab');
  assert.equal(tag, '"sha256:ab"');
  assert.equal(matchesTag(undefined, tag), false);
  for (const header of ['*', tag, `W/${tag}`, `"x", ${tag}`])
    assert.equal(matchesTag(header, tag), true, header);
  assert.equal(matchesTag('"y"', tag), false);
  assert.equal(holdsIfRange(undefined, tag), true);
  assert.equal(holdsIfRange(tag, tag), true);
  for (const header of [`W/${tag}`, '"y"', 'Mon, 23 Nov 2026 23:00:00 GMT']) {
    assert.equal(holdsIfRange(header, tag), false, header);
  }
  assert.equal(parseIfMatch(undefined), undefined);
  assert.equal(parseIfMatch('*'), undefined);
  assert.equal(parseIfMatch('"12"'), 12);
  for (const header of ['12', 'W/"12"', '"1","2"', '""']) {
    assert.throws(() => parseIfMatch(header), { code: 'api.invalid' }, header);
  }
});

test('parseLastEventId() takes a number of an entry and refuses all else', () => {
  assert.equal(parseLastEventId(undefined), undefined);
  assert.equal(parseLastEventId(' '), undefined);
  assert.equal(parseLastEventId('41'), 41);
  for (const header of ['-1', '1.5', '1e3', '9'.repeat(16), 'abc']) {
    assert.throws(() => parseLastEventId(header), { code: 'api.invalid' }, header);
  }
});

test('hostNameOf() gives the bare name, and nothing for what is no host', () => {
  const table: [header: string, want: string | undefined][] = [
    ['Builderd.Example.com:8082', 'builderd.example.com'],
    ['localhost.', 'localhost'],
    ['[::1]:8082', '::1'],
    ['127.0.0.1', '127.0.0.1'],
    ['a b', undefined],
    ['a:b', undefined],
    ['a@b', undefined],
    ['a/b', undefined],
    ['', undefined],
  ];
  for (const [header, want] of table) assert.equal(hostNameOf(header), want, header);
  const allowed = new Set(['builderd.example.com']);
  for (const host of [undefined, 'builderd.example.com', 'LOCALHOST:1', '10.0.0.7:8082', '[::1]']) {
    assert.equal(isAllowedHost(host, allowed), true, String(host));
  }
  for (const host of ['evil.example', 'builderd.example.com.evil.example', 'a b']) {
    assert.equal(isAllowedHost(host, allowed), false, host);
  }
  assert.equal(isAllowedHost('evil.example', new Set(['*'])), true);
});

test('isCrossSite() believes what browsers say of themselves', () => {
  const host = 'builderd.example.com:8082';
  assert.equal(isCrossSite({ host }), false);
  assert.equal(isCrossSite({ host, fetchSite: 'same-origin', origin: `https://${host}` }), false);
  assert.equal(isCrossSite({ host, origin: 'https://evil.example' }), true);
  assert.equal(isCrossSite({ host, origin: 'null' }), true);
  assert.equal(isCrossSite({ host, fetchSite: 'cross-site' }), true);
  assert.equal(isCrossSite({ host, fetchSite: 'same-site' }), true);
  assert.equal(isCrossSite({ host, origin: 'https://builderd.example.com' }), true);
});

test('attachment() cannot be broken out of', () => {
  assert.equal(
    attachment('rootfs.ext4'),
    `attachment; filename="rootfs.ext4"; filename*=UTF-8''rootfs.ext4`,
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (name) => {
      assert.match(
        attachment(name),
        /^attachment; filename="[A-Za-z0-9._ -]*"; filename\*=UTF-8''[A-Za-z0-9._~!%-]*$/,
      );
    }),
  );
});

test('digestField() gives the form of RFC 9530', () => {
  assert.equal(digestField(`sha256:${'00'.repeat(32)}`), `sha-256=:${'A'.repeat(43)}=:`);
  assert.equal(digestField('md5:00'), undefined);
});

test('typedQuery() gives texts the types of the schema and refuses NUL', () => {
  const schema = {
    properties: {
      limit: { type: 'integer' },
      force: { type: 'boolean' },
      state: { type: 'array' },
    },
  };
  assert.deepEqual(
    { ...typedQuery({ limit: '12', force: 'true', state: 'pending', other: '1' }, schema) },
    { limit: 12, force: true, state: ['pending'], other: '1' },
  );
  assert.deepEqual(
    { ...typedQuery({ limit: '1e3', force: 'yes' }, schema) },
    { limit: '1e3', force: 'yes' },
  );
  assert.deepEqual({ ...typedQuery({ limit: ['1', '2'] }, schema) }, { limit: ['1', '2'] });
  assert.throws(() => typedQuery({ a: 'x\0' }, schema), { code: 'api.invalid' });
  assert.throws(() => typedQuery({ 'a\0': 'x' }, schema), { code: 'api.invalid' });
});

test('parseTime(), parseDay() and parseLabelSelector() take one form each', () => {
  assert.equal(parseTime(undefined, 'from'), undefined);
  assert.equal(parseTime('2026-11-23T12:00:00Z', 'from'), Date.UTC(2026, 10, 23, 12));
  for (const text of ['2026-11-23', '1', '2026-13-01T00:00:00Z', 'now']) {
    assert.throws(() => parseTime(text, 'from'), { code: 'api.invalid' }, text);
  }
  assert.equal(parseDay('2026-02-28', 'from'), '2026-02-28');
  for (const text of ['2026-02-30', '2026-2-1', "2026-02-01' OR 1=1"]) {
    assert.throws(() => parseDay(text, 'from'), { code: 'api.invalid' }, text);
  }
  assert.deepEqual({ ...parseLabelSelector(['a=1', 'b=x=y', 'c=']) }, { a: '1', b: 'x=y', c: '' });
  for (const texts of [['a'], ['=1'], ['a b=1'], ['a=1', 'a=2'], ['__proto__=1']]) {
    assert.throws(() => parseLabelSelector(texts), { code: 'api.invalid' }, texts.join());
  }
});

test('protocolOf() needs the whole preface for HTTP/2 and no more than the first difference', () => {
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
  assert.equal(protocolOf(Buffer.from(preface)), 'h2');
  assert.equal(protocolOf(Buffer.from(`${preface}more`)), 'h2');
  for (let length = 0; length < preface.length; length += 1) {
    const head = preface.slice(0, length);
    assert.equal(protocolOf(Buffer.from(head)), undefined);
    assert.equal(protocolOf(Buffer.from(`${head}?`)), 'h1');
  }
  assert.equal(protocolOf(Buffer.from('POST /v1/builds HTTP/1.1\r\n')), 'h1');
});
