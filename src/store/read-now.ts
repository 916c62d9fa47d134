import type { Db } from './database.ts';
import { readInteger } from './row-values.ts';

/** The database's clock, for a time that is also reckoned with here. */
export async function readNow(db: Db): Promise<number> {
  const row = await db.k.selectNoFrom(db.now.as('now')).executeTakeFirst();
  return readInteger(row?.now, 'now');
}
