import { newId } from '../core/ids.ts';
import type { Db } from './database.ts';

const KEY = 'database:id';

/** What this database is known by outside; made when it is first asked for, kept by its backups. */
export async function readDatabaseId(db: Db): Promise<string> {
  const known = await find(db);
  if (known !== undefined) return known;
  await db.k
    .insertInto('meta')
    .values({ key: KEY, value: newId() })
    .onConflict((conflict) => conflict.column('key').doNothing())
    .execute();
  // Somebody else's, if two asked at once.
  return (await find(db)) ?? '';
}

async function find(db: Db): Promise<string | undefined> {
  const row = await db.k
    .selectFrom('meta')
    .select('value')
    .where('key', '=', KEY)
    .executeTakeFirst();
  return row?.value;
}
