import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Type as TypeBox } from 'typebox';
import { Check } from 'typebox/value';
import { BuildSpecSchema } from '../../src/builds/build-spec.ts';
import { compileSchema } from '../../src/core/schema/compile-schema.ts';
import { Type } from '../../src/core/schema/schema-builders.ts';

const everything = (T: typeof Type) =>
  T.Object(
    {
      text: T.String({ minLength: 1, maxLength: 3, pattern: '^[^\\u0000]*$', description: 'A.' }),
      maybe: T.Optional(T.Integer({ minimum: -1, maximum: 9 })),
      list: T.Optional(T.Array(T.Number(), { minItems: 1, maxItems: 3, uniqueItems: true })),
      flag: T.Optional(T.Boolean()),
      kind: T.Optional(T.Enum(['a', 'b'])),
      choice: T.Optional(T.Union([T.Literal('x'), T.Literal(2), T.Null()])),
      any: T.Optional(T.Unknown()),
      map: T.Optional(
        T.Record(T.String({ pattern: '^[a-c]{1,2}$' }), T.String(), {
          maxProperties: 2,
          additionalProperties: false,
        }),
      ),
      open: T.Optional(T.Record(T.String(), T.Integer())),
      part: T.Optional(T.Partial(T.Object({ one: T.String(), two: T.Boolean() }))),
    },
    { additionalProperties: false, $id: 'Everything' },
  );

const checker = compileSchema(everything(Type));

test('The builders make the schemas that TypeBox makes', () => {
  const same = JSON.stringify(everything(TypeBox));
  assert.deepEqual(JSON.parse(JSON.stringify(everything(Type))), JSON.parse(same));
  assert.deepEqual({ ...Type.Ref('Build#') }, { ...TypeBox.Ref('Build#') });
});

test('A schema accepts what TypeBox accepts, and nothing else', () => {
  const reference = everything(TypeBox);
  const value = fc.oneof(
    fc.string({ maxLength: 5, unit: 'binary' }),
    fc.integer({ min: -3, max: 11 }),
    fc.double(),
    fc.boolean(),
    fc.constantFrom('a', 'x', 2, null, undefined, '😀😀😀', '\u0000'),
    fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 4 }),
    fc.dictionary(fc.string({ maxLength: 2, unit: fc.constantFrom('a', 'c', 'd') }), fc.string()),
    fc.dictionary(fc.constantFrom('one', 'two'), fc.oneof(fc.string(), fc.boolean(), fc.integer())),
  );
  const names = fc.constantFrom(...Object.keys(reference.properties), 'stranger');
  const near = fc
    .dictionary(names, value, { maxKeys: 3 })
    .map((others) => ({ text: 'abc', ...others }));
  let accepted = 0;
  fc.assert(
    fc.property(fc.oneof(near, value), (each) => {
      const wanted = Check(reference, each);
      if (wanted) accepted += 1;
      assert.equal(checker.accepts(each), wanted);
      assert.equal(checker.findFault(each) === undefined, wanted);
    }),
    { numRuns: 800 },
  );
  assert.ok(accepted > 30);
});

test('The request of a build is held to its schema as TypeBox holds it', () => {
  const spec = compileSchema(BuildSpecSchema);
  for (const value of [
    { source: { image: { reference: 'debian:12' } } },
    { source: { image: { reference: 'debian:12' }, git: { url: 'x' } } },
    { source: { image: { reference: 'debian:12', auth: { token: 't' } } }, labels: { a: 'b' } },
    { source: { image: { reference: 'x' } }, labels: { 'a b': 'b' } },
    { source: { image: { reference: 'x'.repeat(2049) } } },
    { source: { image: { reference: 'x' } }, target: { formats: ['ext4', 'ext4'] } },
    { source: { image: { reference: 'x' } }, priority: 101 },
    { source: { image: { reference: 'x' } }, other: true },
    {},
    [],
    null,
  ]) {
    assert.equal(spec.accepts(value), Check(BuildSpecSchema, value), JSON.stringify(value));
  }
});

test('The first fault says where and what, and never the value', () => {
  const value = { text: 'abc', map: { a: 7 } };
  assert.deepEqual(checker.findFault(value), { path: '/map/a', message: 'must be string' });
  assert.deepEqual(checker.findFault({}), {
    path: '',
    message: 'must have required properties text',
  });
});

test('A keyword that nobody checks is refused when the schema is compiled', () => {
  assert.throws(() => compileSchema(Type.String({ format: 'uuid' })), /keyword format/);
  assert.throws(
    () => compileSchema(Type.Object({}, { additionalProperties: Type.String() })),
    /additionalProperties/,
  );
});
