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

/** Tables of the first schema of the search path, from PostgreSQL's catalogues. */
export async function readPostgresShape<S>(k: Kysely<S>): Promise<DatabaseShape> {
  const columns = await sql<Row>`
    select c.relname as table_name, a.attname as column_name, t.typname as type,
      case when a.attnotnull then 1 else 0 end as required,
      pg_get_expr(d.adbin, d.adrelid) as initial
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace
    order by c.relname, a.attnum`.execute(k);
  // indoption has bit 0 for a descending column; expressions have no attribute.
  const indexes = await sql<Row>`
    select c.relname as table_name, i.relname as index_name,
      case when x.indisunique then 1 else 0 end as is_unique,
      case when x.indisprimary then 1 else 0 end as is_primary,
      case when x.indisvalid then 1 else 0 end as is_valid,
      pg_get_expr(x.indpred, x.indrelid) as condition,
      (
        select string_agg(
          coalesce(a.attname, '?') || case when x.indoption[k.n - 1] & 1 = 1 then ' desc' else '' end,
          ',' order by k.n)
        from unnest(x.indkey::int[]) with ordinality as k (attnum, n)
        left join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum
      ) as columns
    from pg_index x
    join pg_class i on i.oid = x.indexrelid
    join pg_class c on c.oid = x.indrelid
    where c.relnamespace = current_schema()::regnamespace
    order by i.relname`.execute(k);
  const names = new Set(columns.rows.map((row) => readText(row['table_name'], 'table_name')));
  const shape = new Map<string, TableShape>();
  for (const table of names) {
    shape.set(table, {
      columns: new Map(columns.rows.filter(isOf(table)).map(parseColumn)),
      ...parseIndexes(indexes.rows.filter(isOf(table))),
    });
  }
  return shape;
}

const isOf =
  (table: string) =>
  (row: Row): boolean =>
    row['table_name'] === table;

function parseColumn(row: Row): [string, string] {
  const text = describeColumn({
    type: POSTGRES_TYPES.get(readText(row['type'], 'type')) ?? readText(row['type'], 'type'),
    isRequired: readInteger(row['required'], 'required') !== 0,
    initial: readOptionalText(row['initial'], 'initial'),
  });
  return [readText(row['column_name'], 'column_name'), text];
}

/** The catalogue's own names of types. */
const POSTGRES_TYPES = new Map([['int8', 'bigint']]);

function parseIndexes(rows: readonly Row[]): Pick<TableShape, 'key' | 'indexes'> {
  let key: readonly string[] = [];
  const indexes = new Map<string, string>();
  for (const row of rows) {
    const columns = readText(row['columns'], 'columns').split(',');
    if (readInteger(row['is_primary'], 'is_primary') !== 0) {
      key = columns;
      continue;
    }
    const text = describeIndex({
      isUnique: readInteger(row['is_unique'], 'is_unique') !== 0,
      columns,
      condition: readOptionalText(row['condition'], 'condition'),
    });
    // Left behind by a `create index concurrently` that failed.
    const isValid = readInteger(row['is_valid'], 'is_valid') !== 0;
    indexes.set(readText(row['index_name'], 'index_name'), isValid ? text : `invalid ${text}`);
  }
  return { key, indexes };
}
