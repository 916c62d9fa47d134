import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { ViolationCounts } from './violation-counts.ts';

const BUILD_SECONDS = [0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600];
const STAGE_SECONDS = [0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600];
const WAIT_SECONDS = [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600];
const REQUEST_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export type Families = Readonly<
  Record<
    | 'builds'
    | 'pulls'
    | 'attempts'
    | 'pulledBytes'
    | 'writtenBytes'
    | 'leaseLost'
    | 'logDropped'
    | 'linesDropped'
    | 'scrubErrors'
    | 'requests'
    | 'deliveries'
    | 'reloads'
    | 'collectFaults'
    | 'violations',
    Counter
  >
> &
  Readonly<
    Record<
      | 'queueSize'
      | 'memory'
      | 'cpu'
      | 'disk'
      | 'tenantActive'
      | 'quotaUsage'
      | 'diskFree'
      | 'diskTotal'
      | 'quotaLimit'
      | 'oldestQueued'
      | 'orphans'
      | 'reconcile'
      | 'dbUp'
      | 'containerdUp'
      | 'loopLag'
      | 'roleRestarts'
      | 'roleUp'
      | 'info',
      Gauge
    >
  > &
  Readonly<
    Record<
      'buildSeconds' | 'pullSeconds' | 'queueWait' | 'stageSeconds' | 'requestSeconds',
      Histogram
    >
  >;

/** Every metric family: name, help, labels, buckets. The guide's names and labels are a contract. */
export function declareFamilies(registry: Registry, violations: ViolationCounts): Families {
  const registers = [registry];
  const counter = (name: string, help: string, labelNames: readonly string[] = []): Counter =>
    new Counter({ registers, name, help, labelNames: [...labelNames] });
  /** `merge` says what becomes of one series that both roles of a host show. */
  const gauge = (
    name: string,
    help: string,
    labelNames: readonly string[],
    merge: 'sum' | 'max' | 'min',
  ): Gauge => new Gauge({ registers, name, help, labelNames: [...labelNames], aggregator: merge });
  const histogram = (
    name: string,
    help: string,
    buckets: number[],
    labelNames: readonly string[] = [],
  ): Histogram => new Histogram({ registers, name, help, buckets, labelNames: [...labelNames] });

  return {
    // The guide's.
    builds: counter('builderd_builds_total', 'Builds that ended, by outcome.', ['status']),
    buildSeconds: histogram(
      'builderd_builds_duration_seconds',
      'Time from the first claim to the end of a build.',
      BUILD_SECONDS,
    ),
    queueSize: gauge('builderd_builds_queue_size', 'Builds that wait, of all tenants.', [], 'max'),
    memory: gauge(
      'builderd_memory_usage_bytes',
      'Resident memory of the service and its workers.',
      [],
      'sum',
    ),
    cpu: gauge(
      'builderd_cpu_usage_percent',
      'CPU use of the service and its workers since the last scrape; 100 is one core.',
      [],
      'sum',
    ),
    disk: gauge('builderd_disk_usage_bytes', 'Bytes of all stored artifacts.', [], 'max'),
    tenantActive: gauge(
      'builderd_tenant_builds_active',
      'Builds that run on this host, by tenant.',
      ['tenant_id'],
      'sum',
    ),
    quotaUsage: gauge(
      'builderd_tenant_quota_usage',
      'How much of a quota a tenant uses, in the units of the quota.',
      ['tenant_id', 'quota_type'],
      'max',
    ),
    pulls: counter('builderd_docker_pulls_total', 'Images pulled, by registry.', ['registry']),
    pullSeconds: histogram(
      'builderd_docker_pull_duration_seconds',
      'Time that a pull took.',
      STAGE_SECONDS,
    ),
    diskFree: gauge('disk_free_bytes', 'Bytes that can still be written.', ['mountpoint'], 'max'),
    diskTotal: gauge('disk_total_bytes', 'Size of the file system.', ['mountpoint'], 'max'),
    violations: violationsCounter(registers, violations),

    // Ours.
    quotaLimit: gauge(
      'builderd_tenant_quota_limit',
      'Limit of a quota, in its units.',
      ['tenant_id', 'quota_type'],
      'max',
    ),
    oldestQueued: gauge(
      'builderd_queue_oldest_seconds',
      'Age of the oldest build that waits; 0 when none does.',
      [],
      'max',
    ),
    queueWait: histogram(
      'builderd_queue_wait_seconds',
      'Time from creation to the first claim.',
      WAIT_SECONDS,
    ),
    attempts: counter('builderd_attempts_total', 'Attempts that ended, by outcome.', ['outcome']),
    stageSeconds: histogram(
      'builderd_stage_duration_seconds',
      'Time that one stage of a build took.',
      STAGE_SECONDS,
      ['stage'],
    ),
    pulledBytes: counter('builderd_pulled_bytes_total', 'Bytes that pulls fetched.'),
    writtenBytes: counter('builderd_artifact_bytes_total', 'Bytes of finished artifacts.'),
    leaseLost: counter('builderd_lease_lost_total', 'Claims that were lost while a build ran.'),
    orphans: gauge(
      'builderd_orphans',
      'Left-overs that the last reconcile found, by kind.',
      ['kind'],
      'sum',
    ),
    reconcile: gauge('builderd_reconcile_seconds', 'Time that the last reconcile took.', [], 'max'),
    dbUp: gauge('builderd_db_up', '1 while the database answers.', [], 'min'),
    containerdUp: gauge('builderd_containerd_up', '1 while containerd answers.', [], 'max'),
    loopLag: gauge(
      'builderd_event_loop_lag_seconds',
      '99th percentile of the event loop delay since the last scrape.',
      [],
      'max',
    ),
    logDropped: counter(
      'builderd_log_dropped_bytes_total',
      'Bytes of build logs beyond their caps.',
    ),
    linesDropped: counter(
      'builderd_service_log_dropped_lines_total',
      'Lines of the service log that a blocked reader cost.',
    ),
    scrubErrors: counter(
      'builderd_artifact_scrub_errors_total',
      'Artifacts found missing or damaged.',
    ),
    requests: counter(
      'builderd_http_requests_total',
      'Requests answered, by route template and status.',
      ['method', 'route', 'status'],
    ),
    requestSeconds: histogram(
      'builderd_http_request_duration_seconds',
      'Time to the end of an answer.',
      REQUEST_SECONDS,
      ['route'],
    ),
    deliveries: counter('builderd_webhook_deliveries_total', 'Webhook deliveries, by outcome.', [
      'outcome',
    ]),
    reloads: counter('builderd_config_reloads_total', 'Reloads of the configuration, by result.', [
      'result',
    ]),
    roleRestarts: gauge(
      'builderd_role_restarts',
      'Times that the supervisor has restarted a role.',
      ['role'],
      'max',
    ),
    roleUp: gauge('builderd_role_up', '1 while the role answers.', ['role'], 'max'),
    collectFaults: counter('builderd_scrape_faults_total', 'Reads for a scrape that failed.', [
      'collector',
    ]),
    info: gauge('builderd_build_info', '1; the version is in the label.', ['version'], 'max'),
  };
}

function violationsCounter(registers: Registry[], violations: ViolationCounts): Counter {
  return new Counter({
    registers,
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
