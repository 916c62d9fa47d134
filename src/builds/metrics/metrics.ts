import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Registry } from 'prom-client';
import type { TerminalState } from '../../core/build-state.ts';
import { QUOTA_TYPES, type QuotaType } from '../../core/quotas.ts';
import { CappedLabels, RegistryLabels } from './capped-labels.ts';
import { declareFamilies, type Families } from './families.ts';
import { readFileSystems } from './file-systems.ts';
import { readProcessTree } from './process-tree.ts';
import { ViolationCounts } from './violation-counts.ts';

export const ATTEMPT_OUTCOMES = ['completed', 'failed', 'cancelled', 'retried', 'lost'] as const;
export type AttemptOutcome = (typeof ATTEMPT_OUTCOMES)[number];
export const STAGES = ['pull', 'extract', 'build', 'optimize'] as const;
export type Stage = (typeof STAGES)[number];
/** What reconcile may find without an owner. */
export const ORPHAN_KINDS = [
  'lease',
  'staging',
  'scratch',
  'worker',
  'build',
  'cgroup',
  'blob',
] as const;
export type OrphanKind = (typeof ORPHAN_KINDS)[number];
export const DELIVERY_OUTCOMES = ['delivered', 'retried', 'given_up', 'disabled', 'lost'] as const;
export type DeliveryOutcome = (typeof DELIVERY_OUTCOMES)[number];

const MAX_ROUTES = 200;
const ENDS = ['completed', 'failed', 'cancelled'] as const satisfies readonly TerminalState[];

export interface MetricsOptions {
  readonly role: 'api' | 'executor';
  readonly version: string;
  /** Registries of the operator's settings, shown by name. */
  readonly registries: readonly string[];
  /** Directories whose disks are watched. */
  readonly directories: readonly string[];
  /** Tenants with series of their own; the rest is `other`. */
  readonly maxTenants: number;
  /** Called when something that a scrape reads cannot be read. */
  readonly onFault: (collector: string, reason: unknown) => void;
}

/** Fills gauges just before a scrape; must end soon after its signal. */
export type Collect = (signal: AbortSignal) => Promise<void>;

const COLLECT_LIMIT_MS = 2000;

/** What the rooms tell of their work; `families.ts` says how it is shown. */
export class Metrics {
  readonly registry = new Registry();
  readonly #tenants: CappedLabels;
  readonly #routes = new CappedLabels(MAX_ROUTES);
  readonly #registries: RegistryLabels;
  readonly #violations = new ViolationCounts();
  readonly #collectors = new Map<string, Collect>();
  readonly #onFault: MetricsOptions['onFault'];
  readonly #loopDelay = monitorEventLoopDelay({ resolution: 10 });
  #lastCpu = { at: performance.now(), seconds: readProcessTree().cpuSeconds };

  readonly #families: Families;

  constructor(options: MetricsOptions) {
    this.#tenants = new CappedLabels(options.maxTenants);
    this.#families = declareFamilies(this.registry, this.#violations);
    this.#registries = new RegistryLabels(options.registries);
    this.#onFault = options.onFault;
    this.#loopDelay.enable();
    // Every series of a closed set is there from the start: rates need a first sample.
    for (const status of ENDS) this.#families.builds.inc({ status }, 0);
    for (const registry of this.#registries.all) this.#families.pulls.inc({ registry }, 0);
    for (const outcome of ATTEMPT_OUTCOMES) this.#families.attempts.inc({ outcome }, 0);
    for (const outcome of DELIVERY_OUTCOMES) this.#families.deliveries.inc({ outcome }, 0);
    for (const result of ['applied', 'refused']) this.#families.reloads.inc({ result }, 0);
    for (const stage of STAGES) this.#families.stageSeconds.zero({ stage });
    this.#families.info.set({ version: options.version }, 1);
    this.#families.roleUp.set({ role: options.role }, 1);
    this.addCollector('process', async () => this.#readProcess());
    this.addCollector('disk', async () => this.#readDisks(options.directories));
  }

  /** `durationMs` from the first claim; absent for a build that never began. */
  buildFinished({
    status,
    durationMs,
  }: {
    readonly status: TerminalState;
    readonly durationMs?: number;
  }): void {
    this.#families.builds.inc({ status });
    if (durationMs !== undefined) this.#families.buildSeconds.observe(durationMs / 1000);
  }

  attemptFinished(outcome: AttemptOutcome): void {
    this.#families.attempts.inc({ outcome });
  }

  stageFinished(stage: Stage, durationMs: number): void {
    this.#families.stageSeconds.observe({ stage }, durationMs / 1000);
  }

  /** A pull that ended well. `registry` as in the normalised reference; unknown ones count as `other`. */
  pullFinished({
    registry,
    durationMs,
    bytes,
  }: {
    readonly registry: string;
    readonly durationMs: number;
    readonly bytes: number;
  }): void {
    this.#families.pulls.inc({ registry: this.#registries.label(registry) });
    this.#families.pullSeconds.observe(durationMs / 1000);
    this.#families.pulledBytes.inc(bytes);
  }

  artifactWritten(bytes: number): void {
    this.#families.writtenBytes.inc(bytes);
  }

  queueWaited(durationMs: number): void {
    this.#families.queueWait.observe(durationMs / 1000);
  }

  leaseLost(): void {
    this.#families.leaseLost.inc();
  }

  /** `tenant` is the name that operators know. */
  violation({
    tenant,
    quotaType,
  }: {
    readonly tenant: string;
    readonly quotaType: QuotaType;
  }): void {
    this.#violations.add(this.#tenants.label(tenant), quotaType);
  }

  /** `route` is the template of the router, never the path that was asked for. */
  request({
    method,
    route,
    status,
    durationMs,
  }: {
    readonly method: string;
    readonly route: string;
    readonly status: number;
    readonly durationMs: number;
  }): void {
    const template = this.#routes.label(route);
    this.#families.requests.inc({ method, route: template, status });
    this.#families.requestSeconds.observe({ route: template }, durationMs / 1000);
  }

  logDropped(bytes: number): void {
    this.#families.logDropped.inc(bytes);
  }

  serviceLinesDropped(lines: number): void {
    this.#families.linesDropped.inc(lines);
  }

  scrubErrors(count: number): void {
    this.#families.scrubErrors.inc(count);
  }

  webhookDelivered(outcome: DeliveryOutcome): void {
    this.#families.deliveries.inc({ outcome });
  }

  configReloaded(result: 'applied' | 'refused'): void {
    this.#families.reloads.inc({ result });
  }

  reconciled({
    durationMs,
    orphans,
  }: {
    readonly durationMs: number;
    readonly orphans: Partial<Record<OrphanKind, number>>;
  }): void {
    this.#families.reconcile.set(durationMs / 1000);
    for (const kind of ORPHAN_KINDS) this.#families.orphans.set({ kind }, orphans[kind] ?? 0);
  }

  /** Builds that run here, by tenant name. Replaces what was shown before. */
  setActiveBuilds(byTenant: ReadonlyMap<string, number>): void {
    this.#families.tenantActive.reset();
    for (const [tenant, count] of byTenant) {
      this.#families.tenantActive.inc({ tenant_id: this.#tenants.label(tenant) }, count);
    }
  }

  setQueue({ size, oldestMs }: { readonly size: number; readonly oldestMs: number }): void {
    this.#families.queueSize.set(size);
    this.#families.oldestQueued.set(oldestMs / 1000);
  }

  setStoredBytes(bytes: number): void {
    this.#families.disk.set(bytes);
  }

  /** Uses and limits of all tenants worth showing. Replaces what was shown before. */
  setTenants(tenants: Iterable<TenantGauges>): void {
    this.#families.quotaUsage.reset();
    this.#families.quotaLimit.reset();
    for (const { tenant, usage, limits } of tenants) {
      const tenant_id = this.#tenants.label(tenant);
      for (const quota_type of QUOTA_TYPES) {
        this.#violations.announce(tenant_id, quota_type);
        const [used, limit] = [usage[quota_type], limits[quota_type]];
        if (used !== undefined) this.#families.quotaUsage.inc({ tenant_id, quota_type }, used);
        if (limit !== undefined) this.#families.quotaLimit.inc({ tenant_id, quota_type }, limit);
      }
    }
  }

  setDatabaseUp(up: boolean): void {
    this.#families.dbUp.set(up ? 1 : 0);
  }

  setContainerdUp(up: boolean): void {
    this.#families.containerdUp.set(up ? 1 : 0);
  }

  setRoleRestarts(role: string, count: number): void {
    this.#families.roleRestarts.set({ role }, count);
  }

  setRoleUp(role: 'api' | 'executor', up: boolean): void {
    this.#families.roleUp.set({ role }, up ? 1 : 0);
  }

  /** `name` becomes a label value: a constant of ours. */
  addCollector(name: string, collect: Collect): void {
    this.#collectors.set(name, collect);
    this.#families.collectFaults.inc({ collector: name }, 0);
  }

  /** Runs every collector once, all at a time, each bounded; one that fails leaves its last values. */
  async collect(): Promise<void> {
    const runs = Array.from(this.#collectors, async ([name, run]) => {
      const signal = AbortSignal.timeout(COLLECT_LIMIT_MS);
      try {
        await run(signal);
      } catch (reason) {
        this.#families.collectFaults.inc({ collector: name });
        this.#onFault(name, reason);
      }
    });
    await Promise.all(runs);
  }

  #readProcess(): void {
    const { residentBytes, cpuSeconds } = readProcessTree();
    const at = performance.now();
    const elapsed = (at - this.#lastCpu.at) / 1000;
    const used = Math.max(0, cpuSeconds - this.#lastCpu.seconds);
    this.#families.memory.set(residentBytes);
    if (elapsed > 0) this.#families.cpu.set((used / elapsed) * 100);
    this.#lastCpu = { at, seconds: cpuSeconds };
    const lagNs = this.#loopDelay.percentile(99);
    this.#families.loopLag.set(Number.isFinite(lagNs) ? lagNs / 1e9 : 0);
    this.#loopDelay.reset();
  }

  async #readDisks(directories: readonly string[]): Promise<void> {
    const systems = await readFileSystems(directories);
    this.#families.diskFree.reset();
    this.#families.diskTotal.reset();
    for (const { mountpoint, freeBytes, totalBytes } of systems) {
      this.#families.diskFree.set({ mountpoint }, freeBytes);
      this.#families.diskTotal.set({ mountpoint }, totalBytes);
    }
  }
}

/** What a scrape shows about one tenant; units are those of the quotas. */
export interface TenantGauges {
  readonly tenant: string;
  readonly usage: Partial<Record<QuotaType, number>>;
  readonly limits: Partial<Record<QuotaType, number>>;
}
