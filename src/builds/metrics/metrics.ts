import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { TerminalState } from '../../core/build-state.ts';
import { QUOTA_TYPES, type QuotaType } from '../../core/quotas.ts';
import { CappedLabels, RegistryLabels } from './capped-labels.ts';
import { readFileSystems } from './file-systems.ts';
import { readProcessTree } from './process-tree.ts';
import { ViolationCounts } from './violation-counts.ts';

export const ATTEMPT_OUTCOMES = ['completed', 'failed', 'cancelled', 'retried', 'lost'] as const;
export type AttemptOutcome = (typeof ATTEMPT_OUTCOMES)[number];
export const STAGES = ['pull', 'extract', 'build', 'optimize'] as const;
export type Stage = (typeof STAGES)[number];
/** What reconcile may find without an owner. */
export const ORPHAN_KINDS = ['lease', 'staging', 'worker', 'build', 'cgroup', 'blob'] as const;
export type OrphanKind = (typeof ORPHAN_KINDS)[number];
export const DELIVERY_OUTCOMES = ['delivered', 'retried', 'given_up', 'disabled', 'lost'] as const;
export type DeliveryOutcome = (typeof DELIVERY_OUTCOMES)[number];

const BUILD_SECONDS = [0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600];
const STAGE_SECONDS = [0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600];
const WAIT_SECONDS = [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600];
const REQUEST_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
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

/** All metric families. The first eleven are the operations guide's: names and labels to the letter. */
export class Metrics {
  readonly registry = new Registry();
  readonly #in = { registers: [this.registry] };
  readonly #tenants: CappedLabels;
  readonly #routes = new CappedLabels(MAX_ROUTES);
  readonly #registries: RegistryLabels;
  readonly #violations = new ViolationCounts();
  readonly #collectors = new Map<string, Collect>();
  readonly #onFault: MetricsOptions['onFault'];
  readonly #loopDelay = monitorEventLoopDelay({ resolution: 10 });
  #lastCpu = { at: performance.now(), seconds: readProcessTree().cpuSeconds };

  // The guide's.
  readonly #builds = this.#counter('builderd_builds_total', 'Builds that ended, by outcome.', [
    'status',
  ]);
  readonly #buildSeconds = this.#histogram(
    'builderd_builds_duration_seconds',
    'Time from the first claim to the end of a build.',
    BUILD_SECONDS,
  );
  readonly #queueSize = this.#gauge(
    'builderd_builds_queue_size',
    'Builds that wait, of all tenants.',
    [],
    'max',
  );
  readonly #memory = this.#gauge(
    'builderd_memory_usage_bytes',
    'Resident memory of the service and its workers.',
    [],
    'sum',
  );
  readonly #cpu = this.#gauge(
    'builderd_cpu_usage_percent',
    'CPU use of the service and its workers since the last scrape; 100 is one core.',
    [],
    'sum',
  );
  readonly #disk = this.#gauge(
    'builderd_disk_usage_bytes',
    'Bytes of all stored artifacts.',
    [],
    'max',
  );
  readonly #tenantActive = this.#gauge(
    'builderd_tenant_builds_active',
    'Builds that run on this host, by tenant.',
    ['tenant_id'],
    'sum',
  );
  readonly #quotaUsage = this.#gauge(
    'builderd_tenant_quota_usage',
    'How much of a quota a tenant uses, in the units of the quota.',
    ['tenant_id', 'quota_type'],
    'max',
  );
  readonly #pulls = this.#counter('builderd_docker_pulls_total', 'Images pulled, by registry.', [
    'registry',
  ]);
  readonly #pullSeconds = this.#histogram(
    'builderd_docker_pull_duration_seconds',
    'Time that a pull took.',
    STAGE_SECONDS,
  );
  readonly #diskFree = this.#gauge(
    'disk_free_bytes',
    'Bytes that can still be written.',
    ['mountpoint'],
    'max',
  );
  readonly #diskTotal = this.#gauge(
    'disk_total_bytes',
    'Size of the file system.',
    ['mountpoint'],
    'max',
  );

  // Ours.
  readonly #quotaLimit = this.#gauge(
    'builderd_tenant_quota_limit',
    'Limit of a quota, in its units.',
    ['tenant_id', 'quota_type'],
    'max',
  );
  readonly #oldestQueued = this.#gauge(
    'builderd_queue_oldest_seconds',
    'Age of the oldest build that waits; 0 when none does.',
    [],
    'max',
  );
  readonly #queueWait = this.#histogram(
    'builderd_queue_wait_seconds',
    'Time from creation to the first claim.',
    WAIT_SECONDS,
  );
  readonly #attempts = this.#counter(
    'builderd_attempts_total',
    'Attempts that ended, by outcome.',
    ['outcome'],
  );
  readonly #stageSeconds = this.#histogram(
    'builderd_stage_duration_seconds',
    'Time that one stage of a build took.',
    STAGE_SECONDS,
    ['stage'],
  );
  readonly #pulledBytes = this.#counter('builderd_pulled_bytes_total', 'Bytes that pulls fetched.');
  readonly #writtenBytes = this.#counter(
    'builderd_artifact_bytes_total',
    'Bytes of finished artifacts.',
  );
  readonly #leaseLost = this.#counter(
    'builderd_lease_lost_total',
    'Claims that were lost while a build ran.',
  );
  readonly #orphans = this.#gauge(
    'builderd_orphans',
    'Left-overs that the last reconcile found, by kind.',
    ['kind'],
    'sum',
  );
  readonly #reconcile = this.#gauge(
    'builderd_reconcile_seconds',
    'Time that the last reconcile took.',
    [],
    'max',
  );
  readonly #dbUp = this.#gauge('builderd_db_up', '1 while the database answers.', [], 'min');
  readonly #containerdUp = this.#gauge(
    'builderd_containerd_up',
    '1 while containerd answers.',
    [],
    'max',
  );
  readonly #loopLag = this.#gauge(
    'builderd_event_loop_lag_seconds',
    '99th percentile of the event loop delay since the last scrape.',
    [],
    'max',
  );
  readonly #logDropped = this.#counter(
    'builderd_log_dropped_bytes_total',
    'Bytes of build logs beyond their caps.',
  );
  readonly #linesDropped = this.#counter(
    'builderd_service_log_dropped_lines_total',
    'Lines of the service log that a blocked reader cost.',
  );
  readonly #scrubErrors = this.#counter(
    'builderd_artifact_scrub_errors_total',
    'Artifacts found missing or damaged.',
  );
  readonly #requests = this.#counter(
    'builderd_http_requests_total',
    'Requests answered, by route template and status.',
    ['method', 'route', 'status'],
  );
  readonly #requestSeconds = this.#histogram(
    'builderd_http_request_duration_seconds',
    'Time to the end of an answer.',
    REQUEST_SECONDS,
    ['route'],
  );
  readonly #deliveries = this.#counter(
    'builderd_webhook_deliveries_total',
    'Webhook deliveries, by outcome.',
    ['outcome'],
  );
  readonly #reloads = this.#counter(
    'builderd_config_reloads_total',
    'Reloads of the configuration, by result.',
    ['result'],
  );
  readonly #roleRestarts = this.#gauge(
    'builderd_role_restarts',
    'Times that the supervisor has restarted a role.',
    ['role'],
    'max',
  );
  readonly #roleUp = this.#gauge('builderd_role_up', '1 while the role answers.', ['role'], 'max');
  readonly #collectFaults = this.#counter(
    'builderd_scrape_faults_total',
    'Reads for a scrape that failed.',
    ['collector'],
  );
  readonly #info = this.#gauge(
    'builderd_build_info',
    '1; the version is in the label.',
    ['version'],
    'max',
  );

  constructor(options: MetricsOptions) {
    this.#tenants = new CappedLabels(options.maxTenants);
    this.#registries = new RegistryLabels(options.registries);
    this.#onFault = options.onFault;
    this.#loopDelay.enable();
    this.registry.registerMetric(violationsCounter(this.#violations));
    // Every series of a closed set is there from the start: rates need a first sample.
    for (const status of ENDS) this.#builds.inc({ status }, 0);
    for (const registry of this.#registries.all) this.#pulls.inc({ registry }, 0);
    for (const outcome of ATTEMPT_OUTCOMES) this.#attempts.inc({ outcome }, 0);
    for (const outcome of DELIVERY_OUTCOMES) this.#deliveries.inc({ outcome }, 0);
    for (const result of ['applied', 'refused']) this.#reloads.inc({ result }, 0);
    for (const stage of STAGES) this.#stageSeconds.zero({ stage });
    this.#info.set({ version: options.version }, 1);
    this.#roleUp.set({ role: options.role }, 1);
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
    this.#builds.inc({ status });
    if (durationMs !== undefined) this.#buildSeconds.observe(durationMs / 1000);
  }

  attemptFinished(outcome: AttemptOutcome): void {
    this.#attempts.inc({ outcome });
  }

  stageFinished(stage: Stage, durationMs: number): void {
    this.#stageSeconds.observe({ stage }, durationMs / 1000);
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
    this.#pulls.inc({ registry: this.#registries.label(registry) });
    this.#pullSeconds.observe(durationMs / 1000);
    this.#pulledBytes.inc(bytes);
  }

  artifactWritten(bytes: number): void {
    this.#writtenBytes.inc(bytes);
  }

  queueWaited(durationMs: number): void {
    this.#queueWait.observe(durationMs / 1000);
  }

  leaseLost(): void {
    this.#leaseLost.inc();
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
    this.#requests.inc({ method, route: template, status });
    this.#requestSeconds.observe({ route: template }, durationMs / 1000);
  }

  logDropped(bytes: number): void {
    this.#logDropped.inc(bytes);
  }

  serviceLinesDropped(lines: number): void {
    this.#linesDropped.inc(lines);
  }

  scrubErrors(count: number): void {
    this.#scrubErrors.inc(count);
  }

  webhookDelivered(outcome: DeliveryOutcome): void {
    this.#deliveries.inc({ outcome });
  }

  configReloaded(result: 'applied' | 'refused'): void {
    this.#reloads.inc({ result });
  }

  reconciled({
    durationMs,
    orphans,
  }: {
    readonly durationMs: number;
    readonly orphans: Partial<Record<OrphanKind, number>>;
  }): void {
    this.#reconcile.set(durationMs / 1000);
    for (const kind of ORPHAN_KINDS) this.#orphans.set({ kind }, orphans[kind] ?? 0);
  }

  /** Builds that run here, by tenant name. Replaces what was shown before. */
  setActiveBuilds(byTenant: ReadonlyMap<string, number>): void {
    this.#tenantActive.reset();
    for (const [tenant, count] of byTenant) {
      this.#tenantActive.inc({ tenant_id: this.#tenants.label(tenant) }, count);
    }
  }

  setQueue({ size, oldestMs }: { readonly size: number; readonly oldestMs: number }): void {
    this.#queueSize.set(size);
    this.#oldestQueued.set(oldestMs / 1000);
  }

  setStoredBytes(bytes: number): void {
    this.#disk.set(bytes);
  }

  /** Uses and limits of all tenants worth showing. Replaces what was shown before. */
  setTenants(tenants: Iterable<TenantGauges>): void {
    this.#quotaUsage.reset();
    this.#quotaLimit.reset();
    for (const { tenant, usage, limits } of tenants) {
      const tenant_id = this.#tenants.label(tenant);
      for (const quota_type of QUOTA_TYPES) {
        this.#violations.announce(tenant_id, quota_type);
        const [used, limit] = [usage[quota_type], limits[quota_type]];
        if (used !== undefined) this.#quotaUsage.inc({ tenant_id, quota_type }, used);
        if (limit !== undefined) this.#quotaLimit.inc({ tenant_id, quota_type }, limit);
      }
    }
  }

  setDatabaseUp(up: boolean): void {
    this.#dbUp.set(up ? 1 : 0);
  }

  setContainerdUp(up: boolean): void {
    this.#containerdUp.set(up ? 1 : 0);
  }

  setRoleRestarts(role: string, count: number): void {
    this.#roleRestarts.set({ role }, count);
  }

  setRoleUp(role: 'api' | 'executor', up: boolean): void {
    this.#roleUp.set({ role }, up ? 1 : 0);
  }

  /** `name` becomes a label value: a constant of ours. */
  addCollector(name: string, collect: Collect): void {
    this.#collectors.set(name, collect);
    this.#collectFaults.inc({ collector: name }, 0);
  }

  /** Runs every collector once, all at a time, each bounded; one that fails leaves its last values. */
  async collect(): Promise<void> {
    const runs = Array.from(this.#collectors, async ([name, run]) => {
      const signal = AbortSignal.timeout(COLLECT_LIMIT_MS);
      try {
        await run(signal);
      } catch (reason) {
        this.#collectFaults.inc({ collector: name });
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
    this.#memory.set(residentBytes);
    if (elapsed > 0) this.#cpu.set((used / elapsed) * 100);
    this.#lastCpu = { at, seconds: cpuSeconds };
    const lagNs = this.#loopDelay.percentile(99);
    this.#loopLag.set(Number.isFinite(lagNs) ? lagNs / 1e9 : 0);
    this.#loopDelay.reset();
  }

  async #readDisks(directories: readonly string[]): Promise<void> {
    const systems = await readFileSystems(directories);
    this.#diskFree.reset();
    this.#diskTotal.reset();
    for (const { mountpoint, freeBytes, totalBytes } of systems) {
      this.#diskFree.set({ mountpoint }, freeBytes);
      this.#diskTotal.set({ mountpoint }, totalBytes);
    }
  }

  #counter(name: string, help: string, labelNames: readonly string[] = []): Counter {
    return new Counter({ ...this.#in, name, help, labelNames: [...labelNames] });
  }

  /** `merge` says what becomes of one series that both roles of a host show. */
  #gauge(
    name: string,
    help: string,
    labelNames: readonly string[],
    merge: 'sum' | 'max' | 'min',
  ): Gauge {
    return new Gauge({ ...this.#in, name, help, labelNames: [...labelNames], aggregator: merge });
  }

  #histogram(
    name: string,
    help: string,
    buckets: number[],
    labelNames: readonly string[] = [],
  ): Histogram {
    return new Histogram({ ...this.#in, name, help, buckets, labelNames: [...labelNames] });
  }
}

/** What a scrape shows about one tenant; units are those of the quotas. */
export interface TenantGauges {
  readonly tenant: string;
  readonly usage: Partial<Record<QuotaType, number>>;
  readonly limits: Partial<Record<QuotaType, number>>;
}

function violationsCounter(violations: ViolationCounts): Counter {
  return new Counter({
    registers: [],
    name: 'builderd_quota_violations_total',
    help: 'Requests and builds that a quota refused or stopped.',
    labelNames: ['tenant_id', 'quota_type'],
    collect() {
      this.reset();
      for (const { tenant, quotaType, count } of violations.take()) {
        this.inc({ tenant_id: tenant, quota_type: quotaType }, count);
      }
    },
  });
}
