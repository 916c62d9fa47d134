import { sql } from 'kysely';
import { asBuilderdError, BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { type BuildId, parseBuildId, type TenantId } from '../../core/ids.ts';
import type { Quotas } from '../../core/quotas.ts';
import type { Database, Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';
import { readInteger, readJson, readOptionalText, readText } from '../row-values.ts';
import type { BuildRow } from '../schema.ts';
import { type Candidate, isAnythingPending, readCandidates } from './candidates.ts';
import type { Claim } from './claim.ts';
import { failUnreadable, type UnreadableBuild } from './fail-unreadable.ts';
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
  /** Hears of builds whose rows cannot be read: they have failed by then. */
  readonly onBadBuild?: (build: UnreadableBuild) => void;
  readonly signal: AbortSignal;
}

/**
 * For so long smaller builds may pass by one that the host has no room for. After that the host
 * takes nothing else until it fits, or it would wait for ever on a busy host.
 */
const OVERTAKE_LIMIT_MS = 5 * 60_000;

/** Claims are made one after the other, so that caps and shares are exact on all hosts together. */
export const CLAIM_LOCK = 0x6275_696c_6451;

/**
 * Takes one build, if any may start here and now, in one transaction: state `pulling`, attempt
 * number, lease, slot, step and event. Repeating takes another build. The caller rings `events`.
 */
export async function claimBuild(
  database: Database,
  options: ClaimOptions,
): Promise<Claim | undefined> {
  const passedOver = new Set<TenantId>();
  for (;;) {
    if (!(await isAnythingPending(database))) return undefined;
    let taking: TenantId | undefined;
    const isOpen = ({ tenantId }: Candidate): boolean => !passedOver.has(tenantId);
    const onTake = ({ tenantId }: Candidate): void => void (taking = tenantId);
    try {
      const use = { ...options, isOpen, onTake };
      const found = await database.transaction((tx) => claimInside(tx, use), options);
      if (found?.kind !== 'unreadable') return found?.claim;
      options.onBadBuild?.(found.build);
    } catch (reason) {
      // What is wrong with one tenant's rows must not keep the others from starting.
      if (taking === undefined || !isBuilderdError(reason, 'internal')) throw reason;
      options.onBadTenant?.(taking, reason);
      passedOver.add(taking);
    }
  }
}

type Found =
  | { readonly kind: 'claimed'; readonly claim: Claim }
  /** It has failed, and is in nobody's way any more. */
  | { readonly kind: 'unreadable'; readonly build: UnreadableBuild };

async function claimInside(
  tx: Db,
  options: ClaimOptions & {
    readonly isOpen: (candidate: Candidate) => boolean;
    /** Called before anything is written for the tenant. */
    readonly onTake: (candidate: Candidate) => void;
  },
): Promise<Found | undefined> {
  if (tx.dialect === 'postgres') {
    await sql.raw(`select pg_advisory_xact_lock(${CLAIM_LOCK})`).execute(tx.k);
  }
  const held = await readHeld(tx, options.host);
  const slot = smallestFree(held.slots, options.slots.count);
  if (slot === undefined || held.onHost >= options.maxConcurrent) return undefined;
  const virtualTime = await readVirtualTime(tx);
  const candidates = await readCandidates(tx, held.byTenant, options);
  const eligible = candidates.filter(
    (each) => each.running < each.quotas.maxConcurrentBuilds && options.isOpen(each),
  );
  for (const candidate of inFairOrder(eligible, virtualTime)) {
    const row = await lockHead(tx, candidate.head);
    if (row === undefined) continue;
    options.onTake(candidate);
    const head = parseHead(row);
    if (head instanceof BuilderdError) {
      const build = { id: candidate.head, reason: head };
      await failUnreadable(tx, build);
      return { kind: 'unreadable', build };
    }
    if (!hasRoom(head, options)) {
      if (head.waitedMs > OVERTAKE_LIMIT_MS) return undefined;
      continue;
    }
    const claim = await take(tx, { candidate, head, slot, options });
    await writeVirtualTimes(tx, candidate.tenantId, chargeClaim(candidate, virtualTime));
    return { kind: 'claimed', claim };
  }
  return undefined;
}

/** All that a claim reads of the row: nothing is written before it is read. */
interface Head {
  readonly buildId: BuildId;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly timeoutMs: number;
  readonly waitedMs: number;
  readonly spec: unknown;
  readonly traceParent: string | undefined;
}

const HEAD_COLUMNS = [
  'id',
  'memory_bytes',
  'disk_bytes',
  'timeout_ms',
  'created_at',
  'request',
  'trace_parent',
] as const satisfies readonly (keyof BuildRow)[];
type HeadRow = Readonly<Record<(typeof HEAD_COLUMNS)[number] | 'now', unknown>>;

/** Undefined when somebody else is changing it, such as a cancel: then it is not for us. */
async function lockHead(tx: Db, id: string): Promise<HeadRow | undefined> {
  const query = tx.k
    .selectFrom('builds')
    .select(HEAD_COLUMNS)
    .select(tx.now.as('now'))
    .where('id', '=', id)
    .where('state', '=', 'pending')
    .where('cancel_requested_at', 'is', null);
  return await (tx.dialect === 'postgres'
    ? query.forUpdate().skipLocked()
    : query
  ).executeTakeFirst();
}

function parseHead(row: HeadRow): Head | BuilderdError {
  try {
    return {
      buildId: parseBuildId(readText(row.id, 'builds.id')),
      memoryBytes: readInteger(row.memory_bytes, 'builds.memory_bytes'),
      diskBytes: readInteger(row.disk_bytes, 'builds.disk_bytes'),
      timeoutMs: readInteger(row.timeout_ms, 'builds.timeout_ms'),
      waitedMs: readInteger(row.now, 'now') - readInteger(row.created_at, 'builds.created_at'),
      spec: specOf(row.request),
      traceParent: readOptionalText(row.trace_parent, 'builds.trace_parent'),
    };
  } catch (reason) {
    return asBuilderdError(reason, 'read a build');
  }
}

function hasRoom(head: Head, { freeMemoryBytes, freeDiskBytes }: ClaimOptions): boolean {
  return head.memoryBytes <= freeMemoryBytes && head.diskBytes <= freeDiskBytes;
}

const FIRST_STEP = 'Pulling the image';

async function take(
  tx: Db,
  {
    candidate,
    head,
    slot,
    options,
  }: {
    readonly candidate: Candidate;
    readonly head: Head;
    readonly slot: number;
    readonly options: ClaimOptions;
  },
): Promise<Claim> {
  const { owner, host, leaseMs } = options;
  const { buildId, memoryBytes, diskBytes, timeoutMs, spec, traceParent } = head;
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
    .where('id', '=', buildId)
    .returning(['attempt', 'deadline_at'])
    .executeTakeFirstOrThrow();
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
  return {
    buildId,
    tenantId,
    tenantName,
    attempt,
    slot,
    spec,
    timeoutMs,
    deadlineAt: readInteger(row.deadline_at, 'builds.deadline_at'),
    ...(traceParent === undefined ? {} : { traceParent }),
    memoryBytes,
    diskBytes,
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
