import type { Static, TSchema } from 'typebox';

/** Where a value departs from its schema, and how. Never holds the value, which may be a secret. */
export interface SchemaFault {
  /** JSON pointer of the part; empty for the whole. */
  readonly path: string;
  readonly message: string;
}

export interface CompiledSchema<S extends TSchema> {
  accepts(value: unknown): value is Static<S>;
  /** The first fault. */
  findFault(value: unknown): SchemaFault | undefined;
}

/** Gives the first fault, with its path from the value: a path costs only where there is a fault. */
type Check = (value: unknown) => SchemaFault | undefined;
type Schema = Readonly<Record<string, unknown>>;
type Compile = (argument: unknown, schema: Schema) => Check;

/** Once for each schema. Throws for a keyword that it does not know: nothing goes unchecked. */
export function compileSchema<S extends TSchema>(schema: S): CompiledSchema<S> {
  const check = compile(schemaOf(schema));
  return {
    accepts: (value): value is Static<S> => check(value) === undefined,
    findFault: check,
  };
}

function compile(schema: Schema): Check {
  const checks: Check[] = [];
  for (const [keyword, argument] of Object.entries(schema)) {
    if (ANNOTATIONS.has(keyword)) continue;
    const rule = RULES[keyword];
    if (rule === undefined) throw new TypeError(`Cannot compile a schema: keyword ${keyword}`);
    checks.push(rule(argument, schema));
  }
  return (value) => {
    for (const check of checks) {
      const fault = check(value);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}

const ANNOTATIONS = new Set(['$id', 'description', 'title', 'examples']);

const TYPES: Readonly<Record<string, (value: unknown) => boolean>> = {
  array: Array.isArray,
  boolean: (value) => typeof value === 'boolean',
  integer: Number.isInteger,
  null: (value) => value === null,
  number: Number.isFinite,
  object: isObject,
  string: (value) => typeof value === 'string',
};

const RULES: Readonly<Record<string, Compile>> = {
  type: (argument) => {
    const name = String(argument);
    const is = TYPES[name];
    if (is === undefined) throw new TypeError(`Cannot compile a schema: type ${name}`);
    return rule(is, `must be ${name}`);
  },
  const: (argument) => rule((value) => value === argument, 'must be equal to constant'),
  enum: (argument) => {
    const values = new Set(listOf(argument));
    return rule((value) => values.has(value), 'must be equal to one of the allowed values');
  },
  anyOf: (argument) => {
    const choices = listOf(argument).map((each) => compile(schemaOf(each)));
    return rule(
      (value) => choices.some((check) => check(value) === undefined),
      'must match a schema in anyOf',
    );
  },
  minimum: (argument) =>
    rule(
      (value) => typeof value !== 'number' || value >= Number(argument),
      `must be >= ${String(argument)}`,
    ),
  maximum: (argument) =>
    rule(
      (value) => typeof value !== 'number' || value <= Number(argument),
      `must be <= ${String(argument)}`,
    ),
  minLength: (argument) =>
    rule(
      (value) => typeof value !== 'string' || lengthOf(value) >= Number(argument),
      `must not have fewer than ${String(argument)} characters`,
    ),
  maxLength: (argument) =>
    rule(
      (value) =>
        typeof value !== 'string' ||
        value.length <= Number(argument) ||
        lengthOf(value) <= Number(argument),
      `must not have more than ${String(argument)} characters`,
    ),
  pattern: (argument) => {
    const pattern = new RegExp(String(argument), 'u');
    return rule(
      (value) => typeof value !== 'string' || pattern.test(value),
      `must match pattern "${String(argument)}"`,
    );
  },
  items: (argument) => {
    const check = compile(schemaOf(argument));
    return (value) => {
      if (!Array.isArray(value)) return undefined;
      for (let index = 0; index < value.length; index += 1) {
        const fault = check(value[index]);
        if (fault !== undefined) return below(String(index), fault);
      }
      return undefined;
    };
  },
  minItems: (argument) =>
    rule(
      (value) => !Array.isArray(value) || value.length >= Number(argument),
      `must not have fewer than ${String(argument)} items`,
    ),
  maxItems: (argument) =>
    rule(
      (value) => !Array.isArray(value) || value.length <= Number(argument),
      `must not have more than ${String(argument)} items`,
    ),
  /** Of texts and numbers: what else would be equal has no rule here. */
  uniqueItems: () =>
    rule(
      (value) => !Array.isArray(value) || new Set(value).size === value.length,
      'must not have duplicate items',
    ),
  required: (argument) => {
    const names = listOf(argument).map(String);
    return (value) => {
      if (!isObject(value) || names.every((name) => Object.hasOwn(value, name))) return undefined;
      const absent = names.filter((name) => !Object.hasOwn(value, name));
      return { path: '', message: `must have required properties ${absent.join(', ')}` };
    };
  },
  properties: (argument, schema) => {
    const required = new Set(listOf(schema['required'] ?? []));
    const checks = Object.entries(schemaOf(argument)).map(
      ([name, each]) => [name, compile(schemaOf(each))] as const,
    );
    return (value) => {
      if (!isObject(value)) return undefined;
      for (const [name, check] of checks) {
        if (!Object.hasOwn(value, name)) continue;
        // An undefined property is an absent one.
        if (value[name] === undefined && !required.has(name)) continue;
        const fault = check(value[name]);
        if (fault !== undefined) return below(name, fault);
      }
      return undefined;
    };
  },
  patternProperties: (argument) => {
    const checks = Object.entries(schemaOf(argument)).map(
      ([pattern, each]) => [new RegExp(pattern, 'u'), compile(schemaOf(each))] as const,
    );
    return (value) => {
      if (!isObject(value)) return undefined;
      for (const [name, each] of Object.entries(value)) {
        for (const [pattern, check] of checks) {
          if (!pattern.test(name)) continue;
          const fault = check(each);
          if (fault !== undefined) return below(name, fault);
        }
      }
      return undefined;
    };
  },
  maxProperties: (argument) =>
    rule(
      (value) => !isObject(value) || Object.keys(value).length <= Number(argument),
      `must not have more than ${String(argument)} properties`,
    ),
  additionalProperties: (argument, schema) => {
    if (argument !== false) throw new TypeError('Cannot compile a schema: additionalProperties');
    const known = new Set(Object.keys(schemaOf(schema['properties'] ?? {})));
    const patterns = Object.keys(schemaOf(schema['patternProperties'] ?? {})).map(
      (pattern) => new RegExp(pattern, 'u'),
    );
    return rule(
      (value) =>
        !isObject(value) ||
        Object.keys(value).every(
          (name) => known.has(name) || patterns.some((pattern) => pattern.test(name)),
        ),
      'must not have additional properties',
    );
  },
};

function rule(holds: (value: unknown) => boolean, message: string): Check {
  return (value) => (holds(value) ? undefined : { path: '', message });
}

/** The fault of a part, seen from the whole. */
function below(name: string, { path, message }: SchemaFault): SchemaFault {
  return { path: `/${escape(name)}${path}`, message };
}

function isObject(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function schemaOf(value: unknown): Schema {
  if (isObject(value)) return value;
  throw new TypeError('Cannot compile a schema: want an object');
}

function listOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new TypeError('Cannot compile a schema: want a list');
}

/** In characters, as JSON Schema counts. */
function lengthOf(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** RFC 6901. */
function escape(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}
