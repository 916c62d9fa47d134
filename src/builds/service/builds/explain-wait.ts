import type { Quotas } from '../../../core/quotas.ts';
import { formatBytes, formatDuration } from '../../../core/units.ts';
import type { BuildRecord } from '../../../store/builds/build-record.ts';
import type { ExecutorFacts, QueueFacts } from '../../../store/builds/queue-facts.ts';
import { type HostFacts, parseHostFacts } from '../../host-facts.ts';
import type { BuildView, WaitReason } from '../views.ts';

type Wait = NonNullable<BuildView['waiting']>;
type Waiting = Pick<BuildRecord, 'id' | 'notBefore' | 'memoryBytes' | 'diskBytes'>;

/** A heartbeat comes every ten seconds; after this silence nobody counts on its host. */
const SILENT_MS = 60_000;

/** Why a pending build is not taken, as far as the database tells: what would have to change first. */
export function explainWait(
  build: Waiting,
  tenant: { readonly suspended: boolean; readonly quotas: Quotas },
  facts: QueueFacts,
): Wait {
  const ahead = facts.ahead.get(build.id) ?? 0;
  const [reason, message] = reasonFor(build, tenant, facts);
  return { reason, ahead, message: ahead === 0 ? message : `${message}; ${ahead} before it` };
}

function reasonFor(
  build: Waiting,
  { suspended, quotas }: { readonly suspended: boolean; readonly quotas: Quotas },
  facts: QueueFacts,
): readonly [WaitReason, string] {
  if (suspended) return ['tenant_suspended', 'The operator suspended the tenant'];
  const delayMs = build.notBefore - facts.now;
  if (delayMs > 0) return ['retry_delay', `It is tried again in ${formatDuration(delayMs)}`];
  if (facts.running >= quotas.maxConcurrentBuilds) {
    return [
      'tenant_concurrency',
      `${facts.running} of ${quotas.maxConcurrentBuilds} builds of the tenant are running`,
    ];
  }
  const live = facts.executors.filter(
    ({ draining, heartbeatAt }) => !draining && facts.now - heartbeatAt < SILENT_MS,
  );
  if (live.length === 0) return ['no_executor', 'No executor is running'];
  const hosts = live.map((executor) => ({ executor, host: parseHostFacts(executor.capabilities) }));
  return hostReason(build, hosts) ?? ['next', 'It is taken as soon as an executor asks for work'];
}

interface Host {
  readonly executor: ExecutorFacts;
  readonly host: HostFacts;
}

/** What keeps the build from every host; from several reasons the one that the fewest hosts pass. */
function hostReason(
  build: Waiting,
  all: readonly Host[],
): readonly [WaitReason, string] | undefined {
  const reached = all.filter(({ host }) => host.runtimeAvailable !== false);
  if (reached.length === 0) {
    return ['runtime_unavailable', 'containerd does not answer on any host'];
  }
  const withSlot = reached.filter(
    ({ executor, host }) => executor.running < (host.slots ?? Number.POSITIVE_INFINITY),
  );
  if (withSlot.length === 0)
    return ['host_concurrency', 'All hosts run as many builds as they may'];
  const withMemory = withSlot.filter(
    ({ host }) => build.memoryBytes <= (host.freeMemoryBytes ?? Number.POSITIVE_INFINITY),
  );
  if (withMemory.length === 0) {
    return ['host_memory', `No host has ${formatBytes(build.memoryBytes)} of memory to spare`];
  }
  const withDisk = withMemory.filter(
    ({ host }) => build.diskBytes <= (host.freeDiskBytes ?? Number.POSITIVE_INFINITY),
  );
  if (withDisk.length === 0) {
    return ['host_disk', `No host has ${formatBytes(build.diskBytes)} of disk to spare`];
  }
  return undefined;
}
