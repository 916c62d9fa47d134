import { throwIfAborted } from '../../../core/scope.ts';
import { fullMinutes } from '../../../core/units.ts';
import { totalBuilds } from '../../../store/builds/build-totals.ts';
import { listBuilds } from '../../../store/builds/list-builds.ts';
import type { Db } from '../../../store/database.ts';
import type { BuildStats, Call } from '../build-service.ts';
import type { TenantRef } from '../caller.ts';
import { viewBuilds } from './build-view.ts';

const RECENT = 10;
const ALL = { states: [], labels: {} };

/** BuildStats over the builds that were made in the period and were not deleted. */
export async function buildStats(
  db: Db,
  tenant: TenantRef,
  period: { readonly from?: number; readonly to?: number },
  { signal }: Call,
): Promise<BuildStats> {
  throwIfAborted(signal, 'sum up builds');
  const totals = await totalBuilds(db, tenant.id, period);
  const { builds: recent } = await listBuilds(db, tenant.id, ALL, { limit: RECENT, period });
  return {
    totalBuilds: totals.total,
    successfulBuilds: totals.completed,
    failedBuilds: totals.failed,
    averageBuildMs: totals.completed === 0 ? 0 : Math.round(totals.completedMs / totals.completed),
    totalStorageBytes: totals.artifactBytes,
    totalComputeMinutes: fullMinutes(totals.ranMs),
    recentBuilds: await viewBuilds(db, tenant, recent),
  };
}
