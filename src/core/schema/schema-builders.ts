import type { Type as TypeBox } from 'typebox';

/**
 * TypeBox's builders of JSON Schema, those that we use: its types, without loading it. The package
 * is some 680 modules, which would take 10 MB in every process for functions of one line each.
 */
type Builders = Pick<
  typeof TypeBox,
  | 'Array'
  | 'Boolean'
  | 'Enum'
  | 'Integer'
  | 'Literal'
  | 'Null'
  | 'Number'
  | 'Object'
  | 'Optional'
  | 'Partial'
  | 'Record'
  | 'Ref'
  | 'String'
  | 'Union'
  | 'Unknown'
  | 'Unsafe'
>;

type Schema = Readonly<Record<string, unknown>>;

/** Marks a property that may be absent; no keyword of JSON Schema, so no reader sees it. */
const OPTIONAL = '~optional';
const ANY_KEY = '^.*$';

const of =
  (fields: Schema) =>
  (options?: Schema): Schema => ({ ...fields, ...options });

const object = (properties: Readonly<Record<string, Schema>>, options?: Schema): Schema => {
  const required = Object.keys(properties).filter((key) => !isOptional(properties[key]));
  return {
    type: 'object',
    ...(required.length === 0 ? {} : { required }),
    properties,
    ...options,
  };
};

const optional = (schema: Schema): Schema =>
  Object.defineProperty({ ...schema }, OPTIONAL, { value: 'Optional' });

const builders = {
  Array: (items: Schema, options?: Schema) => ({ type: 'array', items, ...options }),
  Boolean: of({ type: 'boolean' }),
  Enum: (values: readonly unknown[], options?: Schema) => ({ enum: values, ...options }),
  Integer: of({ type: 'integer' }),
  Literal: (value: unknown, options?: Schema) => ({
    type: typeof value,
    const: value,
    ...options,
  }),
  Null: of({ type: 'null' }),
  Number: of({ type: 'number' }),
  Object: object,
  Optional: optional,
  Partial: (schema: { readonly properties: Record<string, Schema> }, options?: Schema) =>
    object(
      Object.fromEntries(
        Object.entries(schema.properties).map(([key, each]) => [key, optional(each)]),
      ),
      options,
    ),
  Record: (key: Schema, value: Schema, options?: Schema) => ({
    type: 'object',
    patternProperties: { [typeof key['pattern'] === 'string' ? key['pattern'] : ANY_KEY]: value },
    ...options,
  }),
  Ref: (ref: string) => ({ $ref: ref }),
  String: of({ type: 'string' }),
  Union: (anyOf: readonly Schema[], options?: Schema) => ({ anyOf, ...options }),
  Unknown: of({}),
  Unsafe: (schema: Schema) => schema,
};

function isOptional(schema: Schema | undefined): boolean {
  return schema !== undefined && Object.hasOwn(schema, OPTIONAL);
}

// The schemas are what TypeBox makes of the same calls: a test compares them.
export const Type = builders as unknown as Builders;
