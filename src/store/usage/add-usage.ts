import type { Db } from '../database.ts';
import { utcDay } from './utc-day.ts';

/** What to add to a tenant's day; names of UsageDay. Whole numbers, none negative. */
export interface UsageCounts {
  readonly buildsCreated?: number;
  readonly buildsCompleted?: number;
  readonly buildsFailed?: number;
  readonly buildsCancelled?: number;
  readonly buildMs?: number;
  readonly cpuUs?: number;
  readonly pulledBytes?: number;
  readonly writtenBytes?: number;
  readonly servedBytes?: number;
}

const COLUMNS = {
  builds_created: 'buildsCreated',
  builds_completed: 'buildsCompleted',
  builds_failed: 'buildsFailed',
  builds_cancelled: 'buildsCancelled',
  build_ms: 'buildMs',
  cpu_us: 'cpuUs',
  pulled_bytes: 'pulledBytes',
  written_bytes: 'writtenBytes',
  served_bytes: 'servedBytes',
} as const satisfies Record<string, keyof UsageCounts>;

type Column = keyof typeof COLUMNS;
const COLUMN_NAMES = Object.keys(COLUMNS).filter((name): name is Column => name in COLUMNS);

/** Adds to today's counters, in one statement that cannot lose another's addition. */
export async function addUsage(tx: Db, tenantId: string, counts: UsageCounts): Promise<void> {
  const added = COLUMN_NAMES.map((column) => [column, whole(counts[COLUMNS[column]])] as const);
  const given = added.filter(([, amount]) => amount > 0);
  if (given.length === 0) return;
  await tx.k
    .insertInto('usage_daily')
    .values({ tenant_id: tenantId, day: utcDay(tx), ...Object.fromEntries(given) })
    .onConflict((conflict) =>
      conflict
        .columns(['tenant_id', 'day'])
        .doUpdateSet((eb) =>
          Object.fromEntries(
            given.map(([column]) => [
              column,
              eb(`usage_daily.${column}`, '+', eb.ref(`excluded.${column}`)),
            ]),
          ),
        ),
    )
    .execute();
}

/** Measurements may be fractions; a counter that went backwards counts as nothing. */
function whole(amount: number | undefined): number {
  const rounded = Math.round(amount ?? 0);
  return Number.isSafeInteger(rounded) && rounded > 0 ? rounded : 0;
}
