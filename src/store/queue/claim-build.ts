import { sql } from 'kysely';
import { BuilderdError } from '../../core/errors.ts';
import { parseBuildId } from '../../core/ids.ts';
import type { Quotas } from '../../core/quotas.ts';
import type { Database, Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';
import { readInteger, readJson, readOptionalText } from '../row-values.ts';
import { type Candidate, isAnythingPending, readCandidates } from './candidates.ts';
import type { Claim } from './claim.ts';
import { chargeClaim, inFairOrder } from './fair-order.ts';
import { readHeld, smallestFree } from './held-builds.ts';
import { openStep } from './step-rows.ts';
import { readVirtualTime, writeVirtualTimes } from './virtual-time.ts';

export interface ClaimOptions {
  /** Of this executor process alone. */
  readonly owner: string;
  readonly host: string;
  readonly leaseMs: number;
  /** Id ranges of the host. */
  readonly slots: { readonly count: number };
  /** Builds that the host runs at once. */
  readonly maxConcurrent: number;
  /** Room for one more build: what running builds were promised is taken off already. */
  readonly freeMemoryBytes: number;
  readonly freeDiskBytes: number;
  /** Lie between a tenant's tier and its own overrides. */
  readonly quotaDefaults?: Partial<Quotas>;
  /** Hears of tenants whose rows cannot be read: they are passed over. */
  readonly onBadTenant?: (tenantId: string, reason: BuilderdError) => void;
  readonly signal: AbortSignal;
}

/**
 * For so long smaller builds may pass by one that the host has no room for. After that the host
 * takes nothing else until it fits, or it would wait for ever on a busy host.
 */
const OVERTAKE_LIMIT_MS = 5 * 60_000;

/** Claims are made one after the other, so that caps and shares are exact on all hosts together. */
const ADVISORY_LOCK = 0x6275_696c_6451;

/**
 * Takes one build, if any may start here and now, in one transaction: state `pulling`, attempt
 * number, lease, slot, step and event. Repeating takes another build. The caller rings `events`.
 */
export async function claimBuild(
  database: Database,
  options: ClaimOptions,
): Promise<Claim | undefined> {
  if (!(await isAnythingPending(database))) return undefined;
  return await database.transaction((tx) => claimInside(tx, options), options);
}

async function claimInside(tx: Db, options: ClaimOptions): Promise<Claim | undefined> {
  if (tx.dialect === 'postgres') {
    await sql.raw(`select pg_advisory_xact_lock(${ADVISORY_LOCK})`).execute(tx.k);
  }
  const held = await readHeld(tx, options.host);
  const slot = smallestFree(held.slots, options.slots.count);
  if (slot === undefined || held.onHost >= options.maxConcurrent) return undefined;
  const virtualTime = await readVirtualTime(tx);
  const candidates = await readCandidates(tx, held.byTenant, options);
  const eligible = candidates.filter(({ running, quotas }) => running < quotas.maxConcurrentBuilds);
  for (const candidate of inFairOrder(eligible, virtualTime)) {
    const row = await lockHead(tx, candidate.head);
    if (row === undefined) continue;
    if (!hasRoom(row, options)) {
      if (row.waitedMs > OVERTAKE_LIMIT_MS) return undefined;
      continue;
    }
    const claim = await take(tx, { candidate, slot, options });
    await writeVirtualTimes(tx, candidate.tenantId, chargeClaim(candidate, virtualTime));
    return claim;
  }
  return undefined;
}

interface Head {
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly waitedMs: number;
}

/** Undefined when somebody else is changing it, such as a cancel: then it is not for us. */
async function lockHead(tx: Db, id: string): Promise<Head | undefined> {
  const query = tx.k
    .selectFrom('builds')
    .select(['memory_bytes', 'disk_bytes', 'created_at'])
    .select(tx.now.as('now'))
    .where('id', '=', id)
    .where('state', '=', 'pending')
    .where('cancel_requested_at', 'is', null);
  const row = await (tx.dialect === 'postgres'
    ? query.forUpdate().skipLocked()
    : query
  ).executeTakeFirst();
  if (row === undefined) return undefined;
  return {
    memoryBytes: readInteger(row.memory_bytes, 'builds.memory_bytes'),
    diskBytes: readInteger(row.disk_bytes, 'builds.disk_bytes'),
    waitedMs: readInteger(row.now, 'now') - readInteger(row.created_at, 'builds.created_at'),
  };
}

function hasRoom(head: Head, { freeMemoryBytes, freeDiskBytes }: ClaimOptions): boolean {
  return head.memoryBytes <= freeMemoryBytes && head.diskBytes <= freeDiskBytes;
}

const FIRST_STEP = 'Pulling the image';

async function take(
  tx: Db,
  {
    candidate,
    slot,
    options,
  }: { readonly candidate: Candidate; readonly slot: number; readonly options: ClaimOptions },
): Promise<Claim> {
  const { owner, host, leaseMs } = options;
  const row = await tx.k
    .updateTable('builds')
    .set((eb) => ({
      state: 'pulling',
      attempt: eb('attempt', '+', 1),
      owner,
      host,
      id_slot: slot,
      lease_until: eb(tx.now, '+', leaseMs),
      started_at: eb.fn.coalesce('started_at', tx.now),
      deadline_at: eb.fn.coalesce('deadline_at', eb(tx.now, '+', eb.ref('timeout_ms'))),
      progress: 0,
      current_step: FIRST_STEP,
      error_code: null,
      error_message: null,
      version: eb('version', '+', 1),
      updated_at: tx.now,
    }))
    .where('id', '=', candidate.head)
    .returning([
      'attempt',
      'request',
      'timeout_ms',
      'deadline_at',
      'trace_parent',
      'memory_bytes',
      'disk_bytes',
    ])
    .executeTakeFirstOrThrow();
  const buildId = parseBuildId(candidate.head);
  const attempt = readInteger(row.attempt, 'builds.attempt');
  await tx.k
    .insertInto('attempts')
    .values({
      build_id: buildId,
      attempt,
      owner,
      host,
      started_at: tx.now,
      finished_at: null,
      outcome: null,
      error_code: null,
      error_message: null,
    })
    .execute();
  await openStep(tx, { buildId, attempt }, { state: 'pulling', name: FIRST_STEP });
  const { tenantId, tenantName, quotas } = candidate;
  await appendEvent(tx, {
    tenantId,
    buildId,
    type: 'build.state',
    data: { state: 'pulling', attempt },
  });
  const traceParent = readOptionalText(row.trace_parent, 'builds.trace_parent');
  return {
    buildId,
    tenantId,
    tenantName,
    attempt,
    slot,
    spec: specOf(row.request),
    timeoutMs: readInteger(row.timeout_ms, 'builds.timeout_ms'),
    deadlineAt: readInteger(row.deadline_at, 'builds.deadline_at'),
    ...(traceParent === undefined ? {} : { traceParent }),
    memoryBytes: readInteger(row.memory_bytes, 'builds.memory_bytes'),
    diskBytes: readInteger(row.disk_bytes, 'builds.disk_bytes'),
    quotas,
  };
}

/** A row without JSON must end its build, not this claim: whoever checks the request sees nothing. */
function specOf(request: unknown): unknown {
  try {
    return readJson(request, 'builds.request');
  } catch (reason) {
    if (reason instanceof BuilderdError) return undefined;
    throw reason;
  }
}
