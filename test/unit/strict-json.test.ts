import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  DOCUMENT_LIMITS,
  JsonReal,
  type JsonValue,
  parseStrictJson,
} from '../../src/core/strict-json.ts';

const parse = (text: string): JsonValue => parseStrictJson(Buffer.from(text, 'utf8'), 'a test');
const refused = { code: 'source.invalid' };

const deep = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;

function toPlain(value: JsonValue): unknown {
  if (value instanceof JsonReal) return value.value;
  if (value instanceof Map) return [...value].map(([key, each]) => [key, toPlain(each)]);
  return Array.isArray(value) ? value.map((each: JsonValue) => toPlain(each)) : value;
}

function expected(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(expected);
  if (typeof value !== 'object' || value === null) return Object.is(value, -0) ? 0 : value;
  return Object.entries(value).map(([key, each]) => [key, expected(each)]);
}

test('parseStrictJson() reads what JSON.stringify() writes', () => {
  const key = fc.string().map((each) => `k${each.toLowerCase()}`);
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      fc.string(),
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('tree'), { maxLength: 5 }),
      fc.dictionary(key, tie('tree'), { maxKeys: 5 }),
    ),
  }));
  fc.assert(
    fc.property(tree, fc.constantFrom(undefined, 2), (value, indent) => {
      const text = JSON.stringify(value, undefined, indent);
      let got: JsonValue;
      try {
        got = parse(text);
      } catch (reason) {
        // Two keys that differ only in the folding of case outside ASCII.
        assert.match(String(reason), /twice/);
        return;
      }
      assert.deepEqual(toPlain(got), expected(JSON.parse(text)));
    }),
  );
});

test('parseStrictJson() refuses exactly what JSON.parse() refuses, or more', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[[\]{}:,"\\a0-9.eE+\-u \ntrufalsn]{0,24}$/), (text) => {
      let lax: unknown;
      try {
        lax = JSON.parse(text);
      } catch {
        lax = undefined;
      }
      if (lax === undefined) assert.throws(() => parse(text), refused);
    }),
    { numRuns: 2000 },
  );
});

test('parseStrictJson() refuses what readers understand differently', () => {
  const cases = [
    '{"a":1,"a":2}',
    '{"layers":1,"Layers":2}',
    '{"\\u0061":1,"a":2}',
    '{"layers":1,"layer\\u017f":2}',
    '{"a":"\\ud800"}',
    '\ufeff{}',
    '{} {}',
    '{"a":1,}',
    '[1,]',
    "{'a':1}",
    '{"a":01}',
    '{"a":+1}',
    '{"a":"\n"}',
    'NaN',
    '',
    '{"a":1}//x',
  ];
  for (const text of cases) assert.throws(() => parse(text), refused, JSON.stringify(text));
});

test('parseStrictJson() refuses bytes that are not UTF-8', () => {
  assert.throws(() => parseStrictJson(Buffer.from([0x22, 0xff, 0x22]), 'a test'), refused);
});

test('parseStrictJson() lets labels differ in case but not repeat', () => {
  const got = parse('{"config":{"Labels":{"Name":"a","name":"b"}}}');
  assert.deepEqual(toPlain(got), [
    [
      'config',
      [
        [
          'Labels',
          [
            ['Name', 'a'],
            ['name', 'b'],
          ],
        ],
      ],
    ],
  ]);
  assert.throws(() => parse('{"Labels":{"a":1,"a":2}}'), refused);
});

test('parseStrictJson() holds its limits', () => {
  assert.ok(parse(deep(DOCUMENT_LIMITS.maxDepth)));
  assert.throws(() => parse(deep(DOCUMENT_LIMITS.maxDepth + 2)), refused);
  const many = Array.from({ length: DOCUMENT_LIMITS.maxKeys + 1 }, (_, at) => `"k${at}":0`);
  assert.throws(() => parse(`{${many.join(',')}}`), refused);
  const large = Buffer.alloc(DOCUMENT_LIMITS.maxBytes + 1, ' ');
  assert.throws(() => parseStrictJson(large, 'a test'), { code: 'source.too_large' });
});

test('parseStrictJson() keeps hostile names as plain data', () => {
  const got = parse('{"__proto__":{"x":1},"constructor":2,"toString":3}');
  assert.deepEqual(toPlain(got), [
    ['__proto__', [['x', 1]]],
    ['constructor', 2],
    ['toString', 3],
  ]);
  assert.equal(Object.hasOwn(Object.prototype, 'x'), false);
});
