import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseStrictBody } from '../../src/api/http/strict-body.ts';

const LIMITS = { maxBytes: 1024, maxDepth: 8, maxKeys: 20 };
const parse = (text: string | Buffer): unknown => parseStrictBody(Buffer.from(text), LIMITS);

test('parseStrictBody() gives plain data without prototypes', () => {
  const body = parse('{"a":{"b":[1,2.5,null,true,"x"]},"constructor":"c"}');
  assert.equal(JSON.stringify(body), '{"a":{"b":[1,2.5,null,true,"x"]},"constructor":"c"}');
  assert.equal(Object.getPrototypeOf(body), null);
});

test('parseStrictBody() refuses what two readers could read differently', () => {
  const table: [name: string, body: string | Buffer][] = [
    ['a key twice', '{"a":1,"a":2}'],
    ['a key in two cases', '{"a":1,"A":2}'],
    ['__proto__', '{"__proto__":{"role":"operator"}}'],
    ['__proto__, escaped', '{"\\u005f_proto__":{}}'],
    ['NUL in a text', '{"a":"\\u0000"}'],
    ['an escape sequence in a text', '{"a":"\\u001b[2J"}'],
    ['a C1 control in a text', '{"a":"\\u009b"}'],
    ['NUL in a key', '{"\\u0000":1}'],
    ['half a surrogate pair', '{"a":"\\ud800"}'],
    ['no UTF-8', Buffer.from([0x22, 0xff, 0x22])],
    ['a byte order mark', '\ufeff{}'],
    ['depth', '['.repeat(100)],
    ['keys', `{${Array.from({ length: 30 }, (_, n) => `"k${n}":1`).join()}}`],
    ['trailing text', '{} {}'],
    ['a comment', '{/**/}'],
    ['NaN', '{"a":NaN}'],
    ['nothing', ' '],
  ];
  for (const [name, body] of table) assert.throws(() => parse(body), { code: 'api.invalid' }, name);
  assert.throws(() => parse(' '.repeat(2000)), { code: 'api.too_large' });
});

test('parseStrictBody() agrees with JSON.parse wherever it does not refuse', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = JSON.stringify(value);
      try {
        assert.equal(JSON.stringify(parse(text)), JSON.stringify(JSON.parse(text)));
      } catch (reason) {
        assert.match(String(reason), /Cannot (?:read|use) the request body/);
      }
    }),
  );
});
