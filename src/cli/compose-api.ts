import { statfs } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import path from 'node:path';
import { loadAddon } from '../../native/addon.ts';
import { createApi } from '../api/api.ts';
import type { ApiLimits } from '../api/api-limits.ts';
import type { AuthOptions, HealthPort } from '../api/api-options.ts';
import { rpcExtension } from '../api/rpc/rpc-extension.ts';
import { type TlsSettings, tlsContextOptions } from '../api/server/tls-settings.ts';
import type { AdmissionLimits } from '../builds/service/builds/admission.ts';
import { createBuildService } from '../builds/service/builds/create-build-service.ts';
import { createEventService } from '../builds/service/events/create-event-service.ts';
import { startWebhookDelivery } from '../builds/service/events/webhook-delivery.ts';
import { bootstrapOperatorToken } from '../builds/service/tenants/bootstrap-operator-token.ts';
import { createTenantService } from '../builds/service/tenants/create-tenant-service.ts';
import type { HostCapacity } from '../builds/service/tenants/tenant-deps.ts';
import type { BuildService } from '../builds/service/build-service.ts';
import { systemClock } from '../core/clock.ts';
import type { Tracing } from '../core/tracing.ts';
import { parseEgressAllow } from '../egress/allow-list.ts';
import { createDialer, type Dialer } from '../egress/dialer.ts';
import type { Database } from '../store/database.ts';
import { openServiceBase, showRole, watchDatabase } from './compose-service.ts';
import type { Config, Settings } from './config.ts';
import { openArtifacts } from './open-artifacts.ts';
import { writeFirstToken } from './serve/first-token.ts';
import { listenHost } from './serve/check-settings.ts';
import { readProblems } from './serve/readiness.ts';
import { dropPrivileges } from './serve/drop-privileges.ts';
import { tenantDefaultNames, tenantDefaults } from './serve/tenant-defaults.ts';
import { RELOADABLE } from './serve/reloadable.ts';
import { roleSocket } from './serve/role-socket.ts';
import type { RoleContext, RunningRole } from './serve/running-role.ts';
import { commonStatus, databaseStatus, statusOfOther } from './serve/status-report.ts';
import { builderdVersion } from './version.ts';

/** What a reload replaces; whoever needs a setting that may change reads it here. */
interface Live {
  config: Config;
}

/** The api role: everything that only root may open is opened before the user is changed. */
export async function startApi(context: RoleContext): Promise<RunningRole> {
  const { config, metrics, log, signal } = context;
  const { settings } = config;
  await using open = new AsyncDisposableStack();
  const addon = loadAddon();
  const base = open.use(await openServiceBase(context));
  const { database, secrets } = base;
  if (settings.AUTH_MODE === 'token') await makeFirstToken(context, database);
  const tls = tlsOf(config, context.files);
  const jwt = settings.JWT_ISSUERS.length === 0 ? undefined : await import('../api/auth/jwt.ts');
  if (context.identity !== undefined) dropPrivileges(context.identity);
  addon?.setNoNewPrivs();

  const live: Live = { config };
  const artifacts = open.use(
    await openArtifacts({
      settings,
      database,
      secrets,
      log,
      readOnly: true,
      signal: context.signal,
    }),
  );
  const egressAllow = parseEgressAllow(settings.EGRESS_ALLOW.join(','));
  const dialer = open.use(createDialer({ allow: egressAllow }));
  const builds = open.use(
    createBuildService({
      database,
      artifacts,
      secrets,
      limits: admissionLimits(live),
      log,
      onCancelledWaiting: () => metrics.buildFinished({ status: 'cancelled' }),
      onViolation: (tenant, quotaType) => {
        metrics.violation({ tenant, quotaType });
        log.warn(
          { tenant, quotaType, code: 'quota.exceeded' },
          'Refused a build: its quota is used up',
        );
      },
    }),
  );
  const tenants = createTenantService({
    database,
    secrets,
    log,
    newTenants: {
      get tier() {
        return live.config.settings.TENANT_DEFAULT_TIER;
      },
      get overrides() {
        return tenantDefaults(live.config);
      },
    },
    createMissing: settings.AUTH_MODE === 'development' || settings.JWT_CREATE_TENANTS,
    ...(context.alone ? {} : { hostCapacity: await readHostCapacity(settings) }),
  });
  const events = createEventService({
    database,
    secrets,
    allowHttp: settings.WEBHOOK_ALLOW_HTTP,
    egressAllow,
  });
  open.use(
    startWebhookDelivery({
      database,
      secrets,
      dialer,
      clock: systemClock,
      log,
      version: builderdVersion(),
      onAttempt: (outcome) => metrics.webhookDelivered(outcome),
    }),
  );

  let phase: ReturnType<HealthPort['phase']> = 'starting';
  const status: RunningRole['status'] = async (call) => ({
    ...(await commonStatus(context, live.config)),
    problems: await readProblems(database, call),
    database: await databaseStatus(live.config, database, call),
    ...(context.alone
      ? {}
      : { executor: await statusOfOther(roleSocket(settings.RUN_DIR, 'executor'), call) }),
  });
  const api = open.use(
    await createApi({
      host: listenHost(settings, config.given),
      port: settings.PORT,
      builds: traceCreates(builds, context.tracing),
      tenants,
      events,
      auth: authOf(config, dialer, jwt),
      health: { phase: () => phase, problems: (call) => readProblems(database, call), status },
      log,
      version: builderdVersion(),
      ...(tls === undefined ? {} : { tls }),
      ...(settings.ALLOWED_HOSTS.length === 0 ? {} : { allowedHosts: settings.ALLOWED_HOSTS }),
      trustedProxies: settings.TRUSTED_PROXIES,
      limits: limitsOf(config),
      tracing: context.tracing,
      extensions: [rpcExtension(log)],
      observer: { requestDone: (facts) => metrics.request(facts) },
    }),
  );
  watchDatabase(metrics, database, { log, maxTenants: settings.METRICS_MAX_TENANTS, all: true });
  open.use(
    await showRole(context, {
      role: 'api',
      withServer: true,
      status: (call) => status({ signal: call }),
    }),
  );
  const { url } = await api.listen();
  phase = 'serving';
  log.info({ address: url }, 'Serving the API');
  signal.throwIfAborted();
  const owned = open.move();
  return {
    status,
    reload: async (next, files) => {
      const nextTls = tlsOf(next, files);
      // Looked at before anything changes: a pair that does not fit throws here.
      if (nextTls !== undefined) tlsContextOptions(nextTls);
      const turned = (nextTls === undefined) !== (tls === undefined);
      if (nextTls !== undefined && !turned) api.reloadTls(nextTls);
      live.config = next;
      return [...RELOADABLE.api, ...tenantDefaultNames, ...(turned ? [] : TLS_NAMES)];
    },
    async stop() {
      phase = 'draining';
      await api.close({ graceMs: live.config.settings.SHUTDOWN_TIMEOUT });
      await owned.disposeAsync();
    },
    failed: Promise.withResolvers<never>().promise,
  };
}

/** Over REST and RPC alike: the row remembers the span that asked for the build. */
function traceCreates(builds: BuildService, tracing: Tracing): BuildService {
  return {
    ...builds,
    async create(caller, tenant, spec, options) {
      using span = tracing.span('create build', {
        parent: options.traceParent,
        fields: { 'builderd.tenant': tenant.name },
      });
      try {
        const { traceParent = options.traceParent } = span;
        const answer = await builds.create(caller, tenant, spec, {
          ...options,
          ...(traceParent === undefined ? {} : { traceParent }),
        });
        span.set({ 'builderd.build_id': answer.build.id });
        return answer;
      } catch (reason) {
        span.fail(reason);
        throw reason;
      }
    },
  };
}

const TLS_NAMES = ['TLS_CERT_FILE', 'TLS_KEY_FILE', 'TLS_CA_FILE'] as const;

function tlsOf({ settings }: Config, files: RoleContext['files']): TlsSettings | undefined {
  if (settings.TLS_MODE !== 'file') return undefined;
  const { TLS_CERT_FILE: cert = '', TLS_KEY_FILE: key = '', TLS_CA_FILE: clientCa } = files;
  return { cert, key, ...(clientCa === undefined ? {} : { clientCa }) };
}

async function makeFirstToken(
  { config, log, signal }: RoleContext,
  database: Database,
): Promise<void> {
  const { OPERATOR_TOKEN_FILE: tokenFile, DATABASE_DATA_DIR: directory } = config.settings;
  const outcome = await bootstrapOperatorToken(database, {
    signal,
    ...(tokenFile === '' ? {} : { tokenFile }),
  });
  if (outcome.kind !== 'made') return;
  const file = path.join(directory, 'operator.token');
  await writeFirstToken(file, outcome.secret);
  log.warn(
    { address: file },
    'Made the first operator token: take it out of this file, then remove the file',
  );
}

function authOf(
  { settings }: Config,
  dialer: Dialer,
  jwt: typeof import('../api/auth/jwt.ts') | undefined,
): AuthOptions {
  if (settings.AUTH_MODE === 'development') return { mode: 'development' };
  if (jwt === undefined) return { mode: 'tokens' };
  const issuers = settings.JWT_ISSUERS.map((issuer) => ({
    issuer,
    audience: settings.JWT_AUDIENCE,
    tenantClaim: settings.JWT_TENANT_CLAIM,
    roleClaim: settings.JWT_ROLE_CLAIM,
    operatorRoles: settings.JWT_OPERATOR_ROLES,
    readerRoles: settings.JWT_READER_ROLES,
  }));
  return {
    mode: 'tokens',
    verifyJwt: jwt.createJwtVerifier(issuers, { dialer, nowMs: () => performance.now() }),
  };
}

/** RATE_LIMIT is requests a second of one address that shows no credential. */
function limitsOf({ settings, given }: Config): Partial<ApiLimits> {
  if (!given.has('RATE_LIMIT')) return {};
  return { addressRequestsPerMinute: settings.RATE_LIMIT * 60, addressBurst: settings.RATE_LIMIT };
}

function admissionLimits(live: Live): AdmissionLimits {
  return {
    get buildTimeoutMs() {
      return live.config.settings.BUILD_TIMEOUT;
    },
    get memoryBytes() {
      return live.config.settings.BUILD_MEMORY;
    },
    get diskBytes() {
      return live.config.settings.BUILD_DISK;
    },
    get allowedRegistries() {
      return live.config.settings.DOCKER_ALLOWED_REGISTRIES;
    },
  };
}

async function readHostCapacity({ ROOTFS_OUTPUT_DIR }: Settings): Promise<HostCapacity> {
  const { blocks, bsize } = await statfs(ROOTFS_OUTPUT_DIR);
  return { memoryBytes: totalmem(), cpuCores: availableParallelism(), diskBytes: blocks * bsize };
}
