import { type RawBuilder, sql } from 'kysely';
import { asBuilderdError, type BuilderdError } from '../../core/errors.ts';
import { parseTenantId, parseTenantName, type TenantId, type TenantName } from '../../core/ids.ts';
import type { Quotas } from '../../core/quotas.ts';
import type { Db } from '../database.ts';
import { readInteger, readText } from '../row-values.ts';
import { effectiveQuotas } from '../tenants/effective-quotas.ts';
import type { Contender } from './fair-order.ts';

/** A tenant with a build that is ready to start, and what the tenant may use. */
export interface Candidate extends Contender {
  readonly tenantId: TenantId;
  readonly tenantName: TenantName;
  readonly quotas: Quotas;
}

interface CandidateRow {
  readonly id: unknown;
  readonly name: unknown;
  readonly tier: unknown;
  readonly overrides: unknown;
  readonly claim_pass: unknown;
  readonly head: unknown;
}

/**
 * All tenants that are not suspended and have a build ready to start, each with its first one. Jumps
 * from tenant to tenant through the index of waiting builds: the cost goes with the number of
 * tenants that wait, not with the length of their queues.
 */
export async function readCandidates(
  db: Db,
  running: ReadonlyMap<string, number>,
  {
    quotaDefaults = {},
    onBadTenant,
  }: {
    readonly quotaDefaults?: Partial<Quotas>;
    readonly onBadTenant?: (tenantId: string, reason: BuilderdError) => void;
  },
): Promise<readonly Candidate[]> {
  const queue = queueOf(db);
  const { rows } = await sql<CandidateRow>`
    with recursive waiting (tenant_id) as (
      select (
        select tenant_id from ${queue} where state = 'pending'
        order by tenant_id, priority desc, id limit 1
      )
      union all
      select (
        select tenant_id from ${queue}
        where state = 'pending' and builds.tenant_id > waiting.tenant_id
        order by tenant_id, priority desc, id limit 1
      )
      from waiting where waiting.tenant_id is not null
    )
    select tenants.id, tenants.name, tenants.tier, tenants.overrides, tenants.claim_pass, (
      select builds.id from ${queue}
      where builds.state = 'pending' and builds.tenant_id = tenants.id
        and builds.not_before <= ${db.now}
        and builds.cancel_requested_at is null and builds.deleted_at is null
      order by builds.tenant_id, builds.priority desc, builds.id limit 1
    ) as head
    from waiting join tenants on tenants.id = waiting.tenant_id
    where tenants.suspended = 0`.execute(db.k);
  const candidates: Candidate[] = [];
  const quotasOf = quotasReader(quotaDefaults);
  for (const row of rows) {
    if (row.head === null) continue;
    try {
      candidates.push(parseCandidate(row, running, quotasOf));
    } catch (reason) {
      // One bad row must not keep the others from starting.
      onBadTenant?.(String(row.id), asBuilderdError(reason, 'read a tenant'));
    }
  }
  return candidates;
}

/** Whether any build may start by its own times. Without a lock: an idle service asks every second. */
export async function isAnythingPending(db: Db): Promise<boolean> {
  const { rows } = await sql`
    select 1 from ${queueOf(db)} where state = 'pending' and not_before <= ${db.now}
    order by tenant_id, priority desc, id limit 1`.execute(db.k);
  return rows.length > 0;
}

/**
 * The states stand in the text, not in parameters, and the order is the whole index: so both
 * databases walk the index of waiting builds, also before they know how full the table is.
 */
function queueOf(db: Db): RawBuilder<unknown> {
  return sql.raw(db.dialect === 'sqlite' ? 'builds indexed by builds_queued' : 'builds');
}

type QuotasReader = (row: Pick<CandidateRow, 'tier' | 'overrides'>) => Quotas;

/** Few texts serve many tenants: most have no overrides. Each is parsed once. */
function quotasReader(defaults: Partial<Quotas>): QuotasReader {
  const known = new Map<string, Quotas>();
  return (row) => {
    const tier = readText(row.tier, 'tenants.tier');
    const overrides = readText(row.overrides, 'tenants.overrides');
    const key = `${tier} ${overrides}`;
    const quotas = known.get(key) ?? effectiveQuotas({ tier, overrides }, defaults);
    known.set(key, quotas);
    return quotas;
  };
}

function parseCandidate(
  row: CandidateRow,
  running: ReadonlyMap<string, number>,
  quotasOf: QuotasReader,
): Candidate {
  const tenantId = parseTenantId(readText(row.id, 'tenants.id'));
  const quotas = quotasOf(row);
  return {
    tenantId,
    tenantName: parseTenantName(readText(row.name, 'tenants.name')),
    quotas,
    running: running.get(tenantId) ?? 0,
    weight: quotas.weight,
    pass: readInteger(row.claim_pass, 'tenants.claim_pass'),
    head: readText(row.head, 'builds.id'),
  };
}
