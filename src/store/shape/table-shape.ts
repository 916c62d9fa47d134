/** A table as a catalogue describes it, in words that both databases share. */
export interface TableShape {
  /** Name to description: `int not null default 0`. */
  readonly columns: ReadonlyMap<string, string>;
  /** Columns of the primary key, in order. */
  readonly key: readonly string[];
  /** Name to description: `unique (host, id_slot) where id_slot is not null`. */
  readonly indexes: ReadonlyMap<string, string>;
}

export type DatabaseShape = ReadonlyMap<string, TableShape>;

export function describeColumn({
  type,
  isRequired,
  initial,
}: {
  readonly type: string;
  readonly isRequired: boolean;
  readonly initial: string | undefined;
}): string {
  const word = TYPE_WORDS.get(type.toLowerCase()) ?? type.toLowerCase();
  const start = initial === undefined ? '' : ` default ${plain(initial)}`;
  return `${word}${isRequired ? ' not null' : ''}${start}`;
}

export function describeIndex({
  isUnique,
  columns,
  condition,
}: {
  readonly isUnique: boolean;
  readonly columns: readonly string[];
  readonly condition: string | undefined;
}): string {
  const where = condition === undefined ? '' : ` where ${plain(condition)}`;
  return `${isUnique ? 'unique ' : ''}(${columns.join(', ')})${where}`;
}

/** Each difference as a line for people. What is there beyond the wanted tables is not looked at. */
export function compareShapes(want: DatabaseShape, found: DatabaseShape): readonly string[] {
  const faults: string[] = [];
  for (const [table, wanted] of want) {
    const actual = found.get(table);
    if (actual === undefined) {
      faults.push(`table ${table} is missing`);
      continue;
    }
    faults.push(...compareParts(`column ${table}.`, wanted.columns, actual.columns));
    for (const column of actual.columns.keys()) {
      if (!wanted.columns.has(column)) faults.push(`column ${table}.${column} is unknown`);
    }
    faults.push(...compareParts('index ', wanted.indexes, actual.indexes));
    if (wanted.key.join() !== actual.key.join()) {
      faults.push(
        `primary key of ${table} is (${actual.key.join(', ')}), want (${wanted.key.join(', ')})`,
      );
    }
  }
  return faults;
}

function compareParts(
  what: string,
  wanted: ReadonlyMap<string, string>,
  actual: ReadonlyMap<string, string>,
): readonly string[] {
  return [...wanted].flatMap(([name, want]) => {
    const found = actual.get(name);
    if (found === want) return [];
    return [
      found === undefined
        ? `${what}${name} is missing`
        : `${what}${name} is ${found}, want ${want}`,
    ];
  });
}

const TYPE_WORDS = new Map([
  ['integer', 'int'],
  ['bigint', 'int'],
  ['blob', 'bytes'],
  ['bytea', 'bytes'],
]);

/** PostgreSQL prints expressions with brackets and casts that SQLite keeps as they were written. */
function plain(expression: string): string {
  return expression
    .replaceAll(/::\w+/g, '')
    .replaceAll(/["()]/g, '')
    .replaceAll(/\s+/g, ' ')
    .trim()
    .toLowerCase();
}
