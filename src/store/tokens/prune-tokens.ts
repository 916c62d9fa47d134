import { sql } from 'kysely';
import type { Db } from '../database.ts';

/** Rows that one statement removes: short enough that writers need not wait long. */
const BATCH = 500;

/**
 * Removes tenants' tokens that were revoked or have ended this long ago; gives how many. One that
 * made a token which is still there stays, so that revoking what made it reaches that one too.
 * Operators' tokens stay for ever: a file that names a revoked one must never be believed again.
 * Not inside a transaction: each batch is one of its own.
 */
export async function pruneTokens(
  db: Db,
  { olderThanMs, batch = BATCH }: { readonly olderThanMs: number; readonly batch?: number },
): Promise<number> {
  const oldest = sql<number>`${db.now} - ${sql.lit(Math.round(olderThanMs))}`;
  for (let pruned = 0; ; ) {
    const done = await db.k
      .deleteFrom('tokens')
      .where('id', 'in', (eb) =>
        eb
          .selectFrom('tokens as t')
          .select('t.id')
          .where('t.tenant_id', 'is not', null)
          .where((each) =>
            each.or([each('t.revoked_at', '<', oldest), each('t.expires_at', '<', oldest)]),
          )
          .where((each) =>
            each.not(
              each.exists(
                each
                  .selectFrom('tokens as made')
                  .select('made.id')
                  .where('made.created_by', '=', sql<string>`'token:' || t.id`),
              ),
            ),
          )
          .limit(batch),
      )
      .executeTakeFirst();
    const removed = Number(done.numDeletedRows);
    // Those whose last child has just gone are next.
    if (removed === 0) return pruned;
    pruned += removed;
  }
}
