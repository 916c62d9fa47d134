import type { Db } from '../database.ts';
import { readOptionalInteger } from '../row-values.ts';

export interface HeldBuilds {
  readonly byTenant: ReadonlyMap<string, number>;
  readonly onHost: number;
  /** Slots of the host that are taken. */
  readonly slots: ReadonlySet<number>;
}

/** All claims there are, on all hosts: few rows, through a partial index. */
export async function readHeld(db: Db, host: string): Promise<HeldBuilds> {
  const rows = await db.k
    .selectFrom('builds')
    .select(['tenant_id', 'host', 'id_slot'])
    .where('owner', 'is not', null)
    .execute();
  const byTenant = new Map<string, number>();
  for (const row of rows) byTenant.set(row.tenant_id, (byTenant.get(row.tenant_id) ?? 0) + 1);
  const here = rows.filter((row) => row.host === host);
  const slots = here.map((row) => readOptionalInteger(row.id_slot, 'builds.id_slot'));
  return {
    byTenant,
    onHost: here.length,
    slots: new Set(slots.filter((slot) => slot !== undefined)),
  };
}

export function smallestFree(taken: ReadonlySet<number>, count: number): number | undefined {
  for (let slot = 0; slot < count; slot += 1) {
    if (!taken.has(slot)) return slot;
  }
  return undefined;
}
