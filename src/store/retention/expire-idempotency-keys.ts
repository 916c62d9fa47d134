import type { Db } from '../database.ts';

/** Forgets keys after their time: the same key then makes a new build. Gives their number. */
export async function expireIdempotencyKeys(
  db: Db,
  { olderThanMs }: { readonly olderThanMs: number },
): Promise<number> {
  const gone = await db.k
    .deleteFrom('idempotency_keys')
    .where((eb) => eb(eb('created_at', '+', Math.round(olderThanMs)), '<', db.now))
    .executeTakeFirst();
  return Number(gone.numDeletedRows);
}
