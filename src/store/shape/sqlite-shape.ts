import type { Kysely } from 'kysely';
import { sql } from 'kysely';
import { readInteger, readOptionalText, readText } from '../row-values.ts';
import {
  type DatabaseShape,
  describeColumn,
  describeIndex,
  type TableShape,
} from './table-shape.ts';

type Row = Readonly<Record<string, unknown>>;

/** Through the table-valued functions of SQLite's pragmas. */
export async function readSqliteShape<S>(k: Kysely<S>): Promise<DatabaseShape> {
  const tables = await sql<Row>`
    select name from sqlite_schema
    where type = 'table' and name not like 'sqlite_%' order by name`.execute(k);
  const shape = new Map<string, TableShape>();
  for (const row of tables.rows) {
    const table = readText(row['name'], 'name');
    shape.set(table, { ...(await readColumns(k, table)), indexes: await readIndexes(k, table) });
  }
  return shape;
}

async function readColumns<S>(
  k: Kysely<S>,
  table: string,
): Promise<Pick<TableShape, 'columns' | 'key'>> {
  const { rows } = await sql<Row>`
    select name, type, "notnull" as required, dflt_value, pk
    from pragma_table_xinfo(${table}) order by cid`.execute(k);
  const columns = rows.map((row) => {
    const name = readText(row['name'], 'name');
    const text = describeColumn({
      type: readText(row['type'], 'type'),
      isRequired: readInteger(row['required'], 'notnull') !== 0,
      initial: readOptionalText(row['dflt_value'], 'dflt_value'),
    });
    return { name, text, place: readInteger(row['pk'], 'pk') };
  });
  const key = columns.filter(({ place }) => place > 0).toSorted((a, b) => a.place - b.place);
  return {
    columns: new Map(columns.map(({ name, text }) => [name, text])),
    key: key.map(({ name }) => name),
  };
}

async function readIndexes<S>(k: Kysely<S>, table: string): Promise<ReadonlyMap<string, string>> {
  // Origin c: made by `create index`, not for a key.
  const list = await sql<Row>`
    select il.name, il."unique" as is_unique, s.sql
    from pragma_index_list(${table}) il join sqlite_schema s on s.name = il.name
    where il.origin = 'c' order by il.name`.execute(k);
  const indexes = new Map<string, string>();
  for (const row of list.rows) {
    const name = readText(row['name'], 'name');
    const columns = await sql<Row>`
      select name, "desc" as is_desc from pragma_index_xinfo(${name})
      where key = 1 order by seqno`.execute(k);
    const text = readText(row['sql'], 'sql');
    indexes.set(
      name,
      describeIndex({
        isUnique: readInteger(row['is_unique'], 'unique') !== 0,
        columns: columns.rows.map((column) => {
          const isDescending = readInteger(column['is_desc'], 'desc') !== 0;
          return readText(column['name'], 'name') + (isDescending ? ' desc' : '');
        }),
        condition: / where (.*)$/is.exec(text)?.[1],
      }),
    );
  }
  return indexes;
}
