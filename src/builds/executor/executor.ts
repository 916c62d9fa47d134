import { messageOf } from '../../core/errors.ts';
import { detachedSignal } from '../../core/scope.ts';
import { registerExecutor, removeExecutor } from '../../store/executors.ts';
import type { Db } from '../../store/database.ts';
import type { Claim } from '../../store/queue/claim.ts';
import { claimBuild } from '../../store/queue/claim-build.ts';
import { heartbeat } from '../../store/queue/heartbeat.ts';
import { readControls } from '../../store/queue/read-controls.ts';
import { readInteger } from '../../store/row-values.ts';
import type { HostFacts } from '../host-facts.ts';
import { Attempt, type StopReason } from './attempt.ts';
import type { AttemptDeps } from './attempt-deps.ts';
import { type HostRoom, type HostState, type Reserved, freeOf, roomOf } from './host-room.ts';
import { type Reconciler, type ReconcileReport } from './reconcile.ts';
import { Bell, repeat } from './repeat.ts';
import { reportOutcome, workAttempt } from './work-attempt.ts';

export interface ExecutorTimes {
  /** How long a claim holds after a renewal. */
  readonly leaseMs: number;
  /** How much earlier an attempt that could not renew ends itself. */
  readonly leaseMarginMs: number;
  readonly heartbeatMs: number;
  readonly controlMs: number;
  readonly claimMs: number;
  readonly probeMs: number;
  readonly reconcileMs: number;
  /** How long a host takes no builds after one of them met a full disk. */
  readonly diskFullMs: number;
}

export const EXECUTOR_TIMES: ExecutorTimes = {
  leaseMs: 60_000,
  leaseMarginMs: 15_000,
  heartbeatMs: 10_000,
  controlMs: 500,
  claimMs: 1000,
  probeMs: 5000,
  reconcileMs: 60_000,
  diskFullMs: 30_000,
};

export interface ExecutorOptions extends AttemptDeps {
  /** Of this process alone, see store/executor-identity.ts. */
  readonly id: string;
  readonly host: string;
  readonly version: string;
  /** Builds at once. */
  readonly slots: number;
  readonly readHost: (call: { readonly signal: AbortSignal }) => Promise<HostState>;
  readonly reconciler: Reconciler;
  readonly times: ExecutorTimes;
}

export interface RunningBuild {
  readonly buildId: string;
  readonly tenant: string;
  readonly attempt: number;
  readonly runsMs: number;
  readonly stopping?: StopReason;
}

/** For /debug/status. */
export interface ExecutorStatus {
  readonly id: string;
  readonly host: string;
  readonly slots: number;
  readonly draining: boolean;
  readonly running: readonly RunningBuild[];
  readonly runtime: { readonly up: boolean; readonly fault?: string };
  /** What its host has beyond its reserve and what running builds were promised. */
  readonly room: HostRoom | undefined;
  readonly lastReconcile: ReconcileReport | undefined;
}

export interface Executor {
  /** Takes builds and works on them until the signal; what still runs then is handed back. */
  run(signal: AbortSignal): Promise<void>;
  /**
   * Takes no further builds from now on. Resolves when all that ran is through, after handing back
   * what is not by `windowMs`.
   */
  drain(options: { readonly windowMs: number }): Promise<void>;
  status(): ExecutorStatus;
}

export function createExecutor(options: ExecutorOptions): Executor {
  return new ClaimingExecutor(options);
}

const PROBE_LIMIT_MS = 5000;
const QUERY_LIMIT_MS = 10_000;
const CHECK_MS = 250;
/** How long the end waits for attempts that were told to stop. */
const UNWIND_LIMIT_MS = 30_000;

class ClaimingExecutor implements Executor {
  readonly #options: ExecutorOptions;
  readonly #attempts = new Map<Attempt, Promise<void>>();
  readonly #queueBell = new Bell();
  readonly #controlBell = new Bell();
  readonly #probeBell = new Bell();
  #draining = false;
  /** Settles with the round of claims that is under way; never rejects. */
  #claiming: Promise<void> = Promise.resolve();
  #runtimeFault: string | undefined = 'not asked yet';
  #room: HostRoom | undefined;
  #diskFullUntilMs = Number.NEGATIVE_INFINITY;
  #lastReconcile: ReconcileReport | undefined;

  constructor(options: ExecutorOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { database, times } = this.#options;
    // Attempts outlive the signal until they are handed back; what holds their claims must as well.
    const end = new AbortController();
    using queue = database.listen('queue', () => this.#queueBell.ring());
    using control = database.listen('control', () => this.#controlBell.ring());
    void queue;
    void control;
    const loop = (name: string, everyMs: number, work: () => Promise<void>, bell?: Bell) =>
      repeat(work, {
        everyMs,
        signal: end.signal,
        onFault: (err) => this.#options.log.warn({ err, step: name }, 'Executor loop failed'),
        ...(bell === undefined ? {} : { bell }),
      });
    const holding = [
      loop('heartbeat', times.heartbeatMs, () => this.#beat()),
      loop('control', times.controlMs, () => this.#obey(), this.#controlBell),
      loop('deadlines', CHECK_MS, async () => this.#checkTimes()),
      loop('probe', times.probeMs, () => this.#probe(), this.#probeBell),
      loop('reconcile', times.reconcileMs, () => this.#reconcile(end.signal)),
    ];
    await repeat(() => this.#claimAll(signal), {
      everyMs: times.claimMs,
      signal,
      bell: this.#queueBell,
      onFault: (err) => this.#options.log.warn({ err, step: 'claim' }, 'Executor loop failed'),
    });
    this.#draining = true;
    await this.#handBack();
    end.abort();
    await Promise.all(holding);
    await this.#leave();
  }

  async drain({ windowMs }: { readonly windowMs: number }): Promise<void> {
    this.#draining = true;
    this.#options.log.info({ count: this.#attempts.size }, 'Executor takes no further builds');
    // Others should hear of it soon; if they cannot, the next probe tells them.
    this.#probeBell.ring();
    // A claim that was under way may still bring a build, which goes back at once.
    const all = async (): Promise<void> => {
      await this.#claiming;
      await Promise.all(this.#attempts.values());
    };
    await settledWithin([all()], windowMs);
    await this.#handBack();
  }

  status(): ExecutorStatus {
    const { id, host, slots, monotonicMs } = this.#options;
    const fault = this.#runtimeFault;
    return {
      id,
      host,
      slots,
      draining: this.#draining,
      running: Array.from(this.#attempts.keys(), ({ claim, startedMs, stopReason }) => ({
        buildId: claim.buildId,
        tenant: claim.tenantName,
        attempt: claim.attempt,
        runsMs: Math.round(monotonicMs() - startedMs),
        ...(stopReason === undefined ? {} : { stopping: stopReason }),
      })),
      runtime: fault === undefined ? { up: true } : { up: false, fault },
      room: this.#room,
      lastReconcile: this.#lastReconcile,
    };
  }

  async #claimAll(signal: AbortSignal): Promise<void> {
    const round = Promise.withResolvers<void>();
    this.#claiming = round.promise;
    try {
      await this.#claimRound(signal);
    } finally {
      round.resolve();
    }
  }

  async #claimRound(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#draining && this.#runtimeFault === undefined) {
      if (this.#attempts.size >= this.#options.slots) return;
      if (!this.#isWritable()) return;
      if (!(await this.#claimOne(signal))) return;
    }
  }

  async #claimOne(signal: AbortSignal): Promise<boolean> {
    const { database, id, host, slots, times, monotonicMs, failpoints, metrics } = this.#options;
    const room = await this.#readRoom();
    const askedMs = monotonicMs();
    const claim = await claimBuild(database, {
      owner: id,
      host,
      leaseMs: times.leaseMs,
      slots: { count: slots },
      maxConcurrent: slots,
      ...room,
      onBadTenant: (tenantId, err) => {
        this.#options.log.error({ tenantId, err }, 'Cannot read a tenant: its builds wait');
      },
      onBadBuild: ({ id: buildId, reason: err }) => {
        this.#options.log.error({ buildId, err }, 'Cannot read a build: it has failed');
      },
      signal,
    });
    if (claim === undefined) return false;
    await failpoints.hit('executor.claimed');
    const { leftMs, waitedMs } = await readClaimTimes(database, claim);
    if (claim.attempt === 1) metrics.queueWaited(waitedMs);
    const attempt = new Attempt(
      claim,
      { owner: id, askedMs, leftMs },
      { leaseMs: times.leaseMs, marginMs: times.leaseMarginMs, monotonicMs },
    );
    if (this.#draining) attempt.stop('handback');
    this.#attempts.set(attempt, this.#work(attempt));
    this.#showActive();
    return true;
  }

  /** Never rejects. */
  async #work(attempt: Attempt): Promise<void> {
    const { log } = this.#options;
    const { buildId, tenantId } = attempt.claim;
    try {
      log.info({ buildId, tenantId, attempt: attempt.claim.attempt }, 'Build claimed');
      await this.#slotFree(attempt);
      const outcome = await workAttempt(attempt, this.#options);
      if (attempt.metFullDisk) this.#pauseForDisk();
      reportOutcome(attempt, outcome, this.#options);
    } catch (err) {
      // Its row still says that we hold it: once the lease is over, it is taken up again.
      log.error({ err, buildId, tenantId, attempt: attempt.claim.attempt }, 'Attempt broke off');
    } finally {
      this.#attempts.delete(attempt);
      this.#showActive();
      this.#queueBell.ring();
    }
  }

  /**
   * An attempt whose claim was lost still unwinds when the database gives its slot to another one:
   * two workers must never share the ids that belong to a slot.
   */
  async #slotFree(attempt: Attempt): Promise<void> {
    const { slot } = attempt.claim;
    const others = [...this.#attempts].filter(
      ([other]) => other !== attempt && other.claim.slot === slot,
    );
    await Promise.all(others.map(([, work]) => work));
  }

  async #beat(): Promise<void> {
    const { database, id, times, monotonicMs } = this.#options;
    const attempts = [...this.#attempts.keys()];
    const askedMs = monotonicMs();
    const claims = attempts.map(({ fenced }) => fenced);
    const beats = await heartbeat(database, { owner: id, claims, leaseMs: times.leaseMs });
    for (const beat of beats) {
      const attempt = attempts.find(({ fenced }) => isSameAttempt(fenced, beat));
      if (attempt === undefined) continue;
      if (beat.lost) attempt.stop('lost');
      else attempt.renewed(askedMs);
      if (beat.cancelRequested) attempt.stop('cancel');
    }
  }

  async #obey(): Promise<void> {
    if (this.#attempts.size === 0) return;
    const controls = await readControls(this.#options.database, this.#options.id);
    for (const attempt of this.#attempts.keys()) {
      const { buildId } = attempt.fenced;
      if (controls.held.get(buildId) !== attempt.fenced.attempt) continue;
      if (controls.cancelled.has(buildId)) attempt.stop('cancel');
    }
  }

  #checkTimes(): void {
    for (const attempt of this.#attempts.keys()) {
      if (attempt.holds && attempt.isOverdue) attempt.stop('deadline');
    }
  }

  /** Also tells the others: the row shows what this executor can take. */
  async #probe(): Promise<void> {
    const { images, metrics, database, id, host, version, slots } = this.#options;
    const before = this.#runtimeFault;
    try {
      await images.ping({ signal: detachedSignal(PROBE_LIMIT_MS) });
      this.#runtimeFault = undefined;
      if (before !== undefined) this.#queueBell.ring();
    } catch (reason) {
      this.#runtimeFault = messageOf(reason);
    }
    const up = this.#runtimeFault === undefined;
    if (up !== (before === undefined)) {
      this.#options.log[up ? 'info' : 'warn'](
        {},
        up ? 'containerd answers' : 'containerd does not answer',
      );
    }
    metrics.setContainerdUp(up);
    const capabilities: HostFacts = {
      slots,
      ...(await this.#readRoom()),
      runtimeAvailable: up,
    };
    await registerExecutor(database, {
      id,
      host,
      version,
      draining: this.#draining,
      capabilities,
    });
  }

  async #reconcile(signal: AbortSignal): Promise<void> {
    const { reconciler, metrics } = this.#options;
    const report = await reconciler.run({
      isRunning: (attempt) =>
        this.#attempts.keys().some(({ fenced }) => isSameAttempt(fenced, attempt)),
      signal,
    });
    this.#lastReconcile = report;
    metrics.reconciled(report);
  }

  async #readRoom(): Promise<HostRoom> {
    const state = await this.#options.readHost({ signal: detachedSignal(QUERY_LIMIT_MS) });
    const reserved = this.#reserved();
    // Where nothing can be stored there is no room, however empty the disk.
    const none = this.#isWritable() ? {} : { freeDiskBytes: 0 };
    this.#room = { ...freeOf(state, reserved), ...none };
    return { ...roomOf(state, reserved), ...none };
  }

  #isWritable(): boolean {
    const { artifacts, monotonicMs } = this.#options;
    return artifacts.health().kind === 'healthy' && monotonicMs() >= this.#diskFullUntilMs;
  }

  /** What it had written is gone by now, but whatever filled the disk beside it is not. */
  #pauseForDisk(): void {
    const { log, monotonicMs, times } = this.#options;
    this.#diskFullUntilMs = monotonicMs() + times.diskFullMs;
    log.error(
      { durationMs: times.diskFullMs, code: 'storage.full' },
      'The disk is full: no further builds for a while',
    );
  }

  #reserved(): Reserved {
    let [memoryBytes, diskBytes] = [0, 0];
    for (const { claim } of this.#attempts.keys()) {
      memoryBytes += claim.memoryBytes;
      diskBytes += claim.diskBytes;
    }
    return { builds: this.#attempts.size, memoryBytes, diskBytes };
  }

  /** Its row would say for a while that somebody is there; that is no reason to end with a fault. */
  async #leave(): Promise<void> {
    const { database, id, log } = this.#options;
    try {
      await removeExecutor(database, id);
    } catch (err) {
      log.warn({ err, executor: id }, 'Cannot sign off');
    }
  }

  async #handBack(): Promise<void> {
    for (const attempt of this.#attempts.keys()) attempt.stop('handback');
    await settledWithin(this.#attempts.values(), UNWIND_LIMIT_MS);
  }

  #showActive(): void {
    const byTenant = new Map<string, number>();
    for (const { claim } of this.#attempts.keys()) {
      byTenant.set(claim.tenantName, (byTenant.get(claim.tenantName) ?? 0) + 1);
    }
    this.#options.metrics.setActiveBuilds(byTenant);
  }
}

/** By the database's clock, in which the row was written. */
async function readClaimTimes(
  db: Db,
  { buildId, deadlineAt }: Claim,
): Promise<{ readonly leftMs: number; readonly waitedMs: number }> {
  const row = await db.k
    .selectFrom('builds')
    .select(['created_at', db.now.as('now')])
    .where('id', '=', buildId)
    .executeTakeFirst();
  const now = readInteger(row?.now, 'now');
  const createdAt = readInteger(row?.created_at, 'builds.created_at');
  return { leftMs: deadlineAt - now, waitedMs: Math.max(0, now - createdAt) };
}

type AttemptName = { readonly buildId: string; readonly attempt: number };

function isSameAttempt(one: AttemptName, other: AttemptName): boolean {
  return one.buildId === other.buildId && one.attempt === other.attempt;
}

async function settledWithin(work: Iterable<Promise<void>>, ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  try {
    await Promise.race([promise, Promise.all(work)]);
  } finally {
    clearTimeout(timer);
  }
}
