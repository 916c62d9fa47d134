import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { hostname, uptime } from 'node:os';
import path from 'node:path';
import { loadAddon } from '../../native/addon.ts';
import type { AttemptImages } from '../builds/executor/attempt-images.ts';
import { createContainerdImages } from '../builds/executor/containerd-images.ts';
import { createExecutor, EXECUTOR_TIMES, type ExecutorTimes } from '../builds/executor/executor.ts';
import { type HostState, readAvailableMemory, scarcest } from '../builds/executor/host-room.ts';
import { forgetOld, KEEP, removeDeleted } from '../builds/executor/housekeeping.ts';
import { createReconciler } from '../builds/executor/reconcile.ts';
import { repeat } from '../builds/executor/repeat.ts';
import { scrubArtifacts } from '../builds/executor/scrub.ts';
import { readStoredBytes } from '../builds/metrics/database-gauges.ts';
import type { Converter } from '../builds/worker/converter.ts';
import { claimIdPool, RANGES_PER_POOL } from '../builds/worker/id-pool.ts';
import { IdRanges } from '../builds/worker/id-ranges.ts';
import { warmWorkerCache } from '../builds/worker/warm-cache.ts';
import { createWorkerConverter } from '../builds/worker/worker-converter.ts';
import { systemClock } from '../core/clock.ts';
import { BuilderdError, isBuilderdError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { parseEgressAllow } from '../egress/allow-list.ts';
import { createDialer } from '../egress/dialer.ts';
import { DEFAULT_CONVERSION_LIMITS } from '../rootfs/layer/layer-source.ts';
import { hostsConfig } from '../runtime/registry/hosts-config.ts';
import { parsePlatform } from '../runtime/registry/platform.ts';
import type { ArtifactStore, StoreSpace } from '../store/artifacts/artifact-store.ts';
import { refuseLocalStoreWithSeveralHosts } from '../store/artifacts/refuse-shared-local-store.ts';
import type { Database } from '../store/database.ts';
import { claimExecutorIdentity } from '../store/executor-identity.ts';
import { openServiceBase, showRole, watchDatabase } from './compose-service.ts';
import type { Config } from './config.ts';
import { readInitSetting } from './guest-init.ts';
import { openArtifacts } from './open-artifacts.ts';
import { wantsIsolation } from './serve/check-settings.ts';
import { RELOADABLE } from './serve/reloadable.ts';
import type { RoleContext, RunningRole } from './serve/running-role.ts';
import { hostStatus } from './serve/host-status.ts';
import { commonStatus } from './serve/status-report.ts';
import { builderdVersion } from './version.ts';

const CERTS_DIR = '/etc/containerd/certs.d';
const GB = 1000 ** 3;
/** Node's names for what OCI calls amd64 and arm64. */
const HOST_ARCH = process.arch === 'x64' ? 'amd64' : process.arch;
const PURGE_MS = 60_000;
const SHARING_MS = 60_000;
const ROOT = path.resolve(import.meta.dirname, '../..');

interface Live {
  config: Config;
}

/** The executor role: root, containerd, workers. */
export async function startExecutor(context: RoleContext): Promise<RunningRole> {
  const { config, metrics, log, failpoints } = context;
  const { settings } = config;
  await using open = new AsyncDisposableStack();
  const base = open.use(await openServiceBase(context));
  const { database, secrets } = base;
  const live: Live = { config };
  // In a directory of root's, where the service user cannot put a link.
  const identity = open.use(claimExecutorIdentity(settings.SCRATCH_DIR));
  const artifacts = open.use(
    await openArtifacts({
      settings,
      database,
      secrets,
      log,
      readOnly: false,
      signal: context.signal,
      ...(context.identity === undefined ? {} : { serviceGid: context.identity.gid }),
    }),
  );
  const dialer = open.use(
    createDialer({ allow: parseEgressAllow(settings.EGRESS_ALLOW.join(',')) }),
  );
  const images = open.use(
    createContainerdImages({
      address: settings.CONTAINERD_ADDRESS,
      namespacePrefix: settings.CONTAINERD_NAMESPACE,
      registry: {
        dialer,
        hosts: hostsConfig(existsSync(CERTS_DIR) ? CERTS_DIR : undefined),
        trustedRealms: new Set(settings.TRUSTED_REALMS),
      },
      maxImageBytes: settings.DOCKER_MAX_IMAGE_SIZE_GB * GB,
      scratchDir: settings.SCRATCH_DIR,
    }),
  );
  const init = await readInitSetting(settings.GUEST_INIT, context);
  const converter = await openConverter(context, open);
  const times = timesOf(config);
  const executor = createExecutor({
    id: identity.id,
    host: hostname(),
    version: builderdVersion(),
    get slots() {
      return live.config.settings.MAX_CONCURRENT_BUILDS;
    },
    readHost: (call) => readHost(live, { artifacts, database }, call),
    reconciler: createReconciler({
      database,
      identity,
      images,
      artifacts,
      scratchDir: settings.SCRATCH_DIR,
      log,
      graceMs: times.leaseMarginMs,
      isEncrypting: () => live.config.settings.ENABLE_ENCRYPTION,
    }),
    times,
    database,
    images,
    converter,
    artifacts,
    secrets,
    metrics,
    log,
    tracing: context.tracing,
    clock: systemClock,
    // Counts the time that the host slept, other than the monotonic clock of Node.
    monotonicMs: () => uptime() * 1000,
    failpoints,
    defaults: {
      platform: parsePlatform(`linux/${HOST_ARCH}`),
      get pullPolicy() {
        return live.config.settings.DOCKER_PULL_POLICY;
      },
      get allowedRegistries() {
        return live.config.settings.DOCKER_ALLOWED_REGISTRIES;
      },
    },
    get encryptAll() {
      return live.config.settings.ENABLE_ENCRYPTION;
    },
    get pullTimeoutMs() {
      return pullTimeoutOf(live.config);
    },
    scratchDir: settings.SCRATCH_DIR,
    ...init,
  });

  const status: RunningRole['status'] = async (call) => ({
    ...(await commonStatus(context, live.config)),
    executor: executor.status(),
    storage: { ...artifacts.health(), ...(await artifacts.space(call)) },
    host: await hostStatus(live.config, call),
  });
  const maxTenants = settings.METRICS_MAX_TENANTS;
  watchDatabase(metrics, database, { log, maxTenants, all: context.alone });
  open.use(
    await showRole(context, {
      role: 'executor',
      withServer: context.alone,
      status: (signal) => status({ signal }),
    }),
  );
  const end = new AbortController();
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => undefined);
  const { signal } = end;
  const running = Promise.all([
    executor.run(signal),
    startChores(live, { database, artifacts, images, log, signal }),
    scrubArtifacts({ database, artifacts, metrics, log }, { signal }),
    watchSharing(database, artifacts, { signal, onShared: broken.reject }),
  ]).then(() => undefined, broken.reject);
  const owned = open.move();
  return {
    status,
    reload: async (next) => {
      live.config = next;
      return RELOADABLE.executor;
    },
    async stop() {
      await executor.drain({ windowMs: live.config.settings.SHUTDOWN_TIMEOUT });
      end.abort(new BuilderdError('service.unavailable', 'Cannot go on: the executor is stopping'));
      await running;
      await owned.disposeAsync();
    },
    failed: broken.promise,
  };
}

/** Workers need root: without it nothing would stand between an image and the service. */
async function openConverter(
  { config, log, signal }: RoleContext,
  open: AsyncDisposableStack,
): Promise<Converter> {
  const common = { limits: DEFAULT_CONVERSION_LIMITS, version: builderdVersion() };
  if (isIsolated(config)) {
    const { WORKER_ID_BASE: base } = config.settings;
    const { first } = open.use(await claimIdPool(base === 0 ? undefined : base));
    const ids = new IdRanges({ first, count: RANGES_PER_POOL, log });
    await ids.withholdUsed();
    const cacheDir = await warmCache(config, log, signal);
    return createWorkerConverter({
      ...common,
      log,
      ids,
      nowMs: () => performance.now(),
      ...(cacheDir === undefined ? {} : { cacheDir }),
    });
  }
  if (wantsIsolation(config.settings, config.given)) {
    throw new BuilderdError(
      'isolation.unavailable',
      'Cannot isolate conversions without root: they would share the process of the executor; start the service as root, or say UNKEY_BUILDERD_ENABLE_ISOLATION=false, which needs UNKEY_BUILDERD_AUTH_MODE=development',
    );
  }
  log.warn(
    { setting: 'ENABLE_ISOLATION' },
    'Images are converted inside the executor: nothing isolates them',
  );
  const { createInProcessConverter } = await import('../builds/worker/in-process-converter.ts');
  return createInProcessConverter({ ...common, addon: loadAddon(), clock: systemClock });
}

/** Workers start a tenth of a second sooner with it, and as well without. */
async function warmCache(
  config: Config,
  log: Log,
  signal: AbortSignal,
): Promise<string | undefined> {
  const cacheDir = path.join(config.settings.RUN_DIR, 'worker-code');
  try {
    return await warmWorkerCache(
      { nodePath: process.execPath, codeRoot: ROOT, cacheDir },
      { signal },
    );
  } catch (err) {
    signal.throwIfAborted();
    log.warn({ err }, 'Workers start without compiled code');
    return undefined;
  }
}

function isIsolated(config: Config): boolean {
  return process.getuid?.() === 0 && wantsIsolation(config.settings, config.given);
}

/** DOCKER_PULL_TIMEOUT, or the guide's DOCKER_TIMEOUT; without either the build's own limit rules. */
function pullTimeoutOf({ settings, given }: Config): number | undefined {
  if (given.has('DOCKER_PULL_TIMEOUT')) return settings.DOCKER_PULL_TIMEOUT;
  return given.has('DOCKER_TIMEOUT') ? settings.DOCKER_TIMEOUT : undefined;
}

/** The proportions of the defaults, for a lease of another length. */
function timesOf({ settings: { LEASE_DURATION: leaseMs } }: Config): ExecutorTimes {
  return {
    ...EXECUTOR_TIMES,
    leaseMs,
    leaseMarginMs: Math.round(leaseMs / 4),
    heartbeatMs: Math.min(EXECUTOR_TIMES.heartbeatMs, Math.round(leaseMs / 6)),
  };
}

async function readHost(
  { config }: Live,
  { artifacts, database }: { readonly artifacts: ArtifactStore; readonly database: Database },
  call: { readonly signal: AbortSignal },
): Promise<HostState> {
  const { SCRATCH_DIR } = config.settings;
  const disk = scarcest(await artifacts.space(call), await spaceOf(SCRATCH_DIR));
  const availableMemoryBytes = await readAvailableMemory();
  if (!config.given.has('STORAGE_MAX_SIZE_GB')) return { availableMemoryBytes, disk };
  const left = config.settings.STORAGE_MAX_SIZE_GB * GB - (await readStoredBytes(database));
  return {
    availableMemoryBytes,
    disk: { ...disk, freeBytes: Math.max(0, Math.min(disk.freeBytes, left)) },
  };
}

async function spaceOf(directory: string): Promise<StoreSpace> {
  const found = await statfs(directory);
  return { freeBytes: found.bavail * found.bsize, totalBytes: found.blocks * found.bsize };
}

/** Retention and the end of deleted builds, again and again until the signal. */
async function startChores(
  live: Live,
  {
    database,
    artifacts,
    images,
    log,
    signal,
  }: {
    readonly database: Database;
    readonly artifacts: ArtifactStore;
    readonly images: AttemptImages;
    readonly log: RoleContext['log'];
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const deps = { database, artifacts, images, log };
  let lastAt = Number.NEGATIVE_INFINITY;
  await repeat(
    async () => {
      await removeDeleted(deps, KEEP, { signal });
      const { settings, given } = live.config;
      const now = performance.now();
      if (now - lastAt < settings.CLEANUP_INTERVAL) return;
      lastAt = now;
      const days = given.has('STORAGE_RETENTION_DAYS')
        ? { buildDays: settings.STORAGE_RETENTION_DAYS }
        : {};
      await forgetOld(deps, { ...KEEP, ...days }, { signal });
    },
    {
      everyMs: PURGE_MS,
      signal,
      onFault: (err) => log.warn({ err, step: 'cleanup' }, 'Cleanup failed'),
    },
  );
}

/**
 * Tells when an executor of another host shares the database but cannot share our directory. Asked
 * again and again: the other may come later.
 */
async function watchSharing(
  database: Database,
  { backend }: ArtifactStore,
  {
    signal,
    onShared,
  }: { readonly signal: AbortSignal; readonly onShared: (reason: BuilderdError) => void },
): Promise<void> {
  await repeat(() => refuseLocalStoreWithSeveralHosts(database, { backend, host: hostname() }), {
    everyMs: SHARING_MS,
    signal,
    onFault: (reason) => {
      // That the database does not answer now is nothing new here.
      if (isBuilderdError(reason, 'config.invalid')) onShared(reason);
    },
  });
}
