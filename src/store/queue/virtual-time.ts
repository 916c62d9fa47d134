import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';
import type { VirtualTimes } from './fair-order.ts';

const KEY = 'queue:virtual_time';

/** The virtual time of the last claim; claims are made one after the other. */
export async function readVirtualTime(db: Db): Promise<number> {
  const row = await db.k
    .selectFrom('meta')
    .select('value')
    .where('key', '=', KEY)
    .executeTakeFirst();
  return row === undefined ? 0 : readInteger(row.value, 'meta.value');
}

export async function writeVirtualTimes(
  tx: Db,
  tenantId: string,
  { virtualTime, pass }: VirtualTimes,
): Promise<void> {
  await tx.k.updateTable('tenants').set({ claim_pass: pass }).where('id', '=', tenantId).execute();
  const value = String(virtualTime);
  await tx.k
    .insertInto('meta')
    .values({ key: KEY, value })
    .onConflict((conflict) => conflict.column('key').doUpdateSet({ value }))
    .execute();
}
