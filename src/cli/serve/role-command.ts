import { randomUUID } from 'node:crypto';
import { asBuilderdError, type BuilderdError, messageOf } from '../../core/errors.ts';
import { NO_FAILPOINTS, parseFailpoints } from '../../core/failpoint.ts';
import { Metrics } from '../../builds/metrics/metrics.ts';
import { type Config, parseConfig, secretsOf } from '../config.ts';
import type { Io } from '../io.ts';
import { createLog, type ServiceLog } from '../logging/create-log.ts';
import { LineSink } from '../logging/line-sink.ts';
import { createRedact } from '../logging/redact.ts';
import { startTelemetry } from '../telemetry/telemetry.ts';
import { builderdVersion } from '../version.ts';
import { RecentErrors } from './recent-errors.ts';
import { changedSettings, isOthersBusiness, RELOADABLE_EVERYWHERE } from './reloadable.ts';
import { RoleLink } from './role-link.ts';
import { type FromRole, isRole, type RoleName, type ToRole } from './role-protocol.ts';
import { returnMemoryOnceStarted } from './return-memory.ts';
import type { RoleContext, RunningRole } from './running-role.ts';
import { servicePlaces } from './service-directories.ts';

const ALIVE_MS = 5000;
const FLUSH_MS = 1000;
const MAX_LOG_BYTES = 4 * 1024 * 1024;

/** One role, in the process that the supervisor made for it. Ends when the supervisor says so, or is gone. */
export async function runRole(name: string, io: Io): Promise<number> {
  const link = RoleLink.open(process.stdin);
  // The terminal or systemd may signal the whole group: the supervisor decides, we stop once.
  const stop = new AbortController();
  io.ownSignals?.((signal) => {
    if (signal !== 'SIGHUP') stop.abort(signal);
  });
  process.on('SIGUSR1', () => undefined);
  try {
    if (!isRole(name)) throw new Error(`there is no role ${JSON.stringify(name)}`);
    const first = await link.start();
    await runUntilStopped(name, first, link, stop);
    return 0;
  } catch (reason) {
    const fault = asBuilderdError(reason, `run the ${name}`);
    link.report(faultMessage(fault));
    return fault.entry.exit;
  } finally {
    await link.close();
  }
}

function faultMessage(fault: BuilderdError): FromRole {
  const { retryable, exit } = fault.entry;
  return { kind: 'fault', message: fault.message, retryable, exit };
}

async function runUntilStopped(
  name: RoleName,
  first: ToRole & { readonly kind: 'start' },
  link: RoleLink,
  stop: AbortController,
): Promise<void> {
  const config = parseConfig(first.environment);
  const service = openService(name, config);
  const { log } = service;
  // Node would print it as it is; here it is masked, and told to whoever reads the log.
  process.once('uncaughtException', (reason) => {
    log.error({ role: name, err: reason }, 'The role broke');
    void service.sink.flush(FLUSH_MS).then(() => process.exit(1));
  });
  try {
    service.metrics.setRoleRestarts(name, first.restarts);
    await using telemetry = await startTelemetry({
      config,
      role: name,
      metrics: service.metrics,
      log,
    });
    const { FAILPOINTS: failpoints } = config.settings;
    const context: RoleContext = {
      role: name,
      config,
      failpoints: failpoints === '' ? NO_FAILPOINTS : parseFailpoints(failpoints),
      files: first.files,
      ...(first.identity === undefined ? {} : { identity: first.identity }),
      log,
      metrics: service.metrics,
      tracing: telemetry.tracing,
      errors: service.errors,
      redact: service.redact,
      alone: first.alone,
      process: randomUUID(),
      startedAt: Date.now(),
      signal: stop.signal,
    };
    // Signals and the end of the supervisor count from here on, also while the role starts.
    const orders = link.orders();
    const role = await startUnlessStopped(name, context);
    if (role === undefined) return;
    link.report({ kind: 'ready' });
    const settling = returnMemoryOnceStarted();
    const alive = setInterval(() => link.report({ kind: 'alive' }), ALIVE_MS);
    try {
      await Promise.race([
        aborted(stop.signal),
        role.failed,
        obey(orders, { name, role, link, service, config }).then(() => stop.abort('supervisor')),
      ]);
      log.info({ role: name }, 'Stopping the role');
    } finally {
      clearInterval(alive);
      clearTimeout(settling);
      await role.stop({ signal: AbortSignal.timeout(service.settings().SHUTDOWN_TIMEOUT) });
    }
  } catch (reason) {
    log.error({ role: name, err: reason }, 'The role ended with a fault');
    throw reason;
  } finally {
    await service.sink.flush(FLUSH_MS);
  }
}

/** A stop may come while it starts: whatever it was in the middle of breaks off, which is no fault. */
async function startUnlessStopped(
  name: RoleName,
  context: RoleContext,
): Promise<RunningRole | undefined> {
  try {
    return await startRole(name, context);
  } catch (reason) {
    if (!context.signal.aborted) throw reason;
    context.log.info({ role: name }, 'Stopped the role before it was ready');
    return undefined;
  }
}

/** Each role loads its own half of the program only. */
async function startRole(name: RoleName, context: RoleContext): Promise<RunningRole> {
  if (name === 'api') {
    const { startApi } = await import('../compose-api.ts');
    return await startApi(context);
  }
  const { startExecutor } = await import('../compose-executor.ts');
  return await startExecutor(context);
}

interface Service {
  readonly log: ServiceLog;
  readonly sink: LineSink;
  readonly metrics: Metrics;
  readonly errors: RecentErrors;
  readonly redact: RoleContext['redact'];
  settings(): Config['settings'];
  replace(next: Config): void;
}

function openService(name: RoleName, config: Config): Service {
  const { settings } = config;
  let current = config;
  let masked = createRedact(secretsOf(config));
  const redact: RoleContext['redact'] = (line) => masked(line);
  const errors = new RecentErrors(redact);
  let log: ServiceLog | undefined;
  const metrics = new Metrics({
    role: name,
    version: builderdVersion(),
    registries: settings.DOCKER_ALLOWED_REGISTRIES,
    directories: servicePlaces(settings)
      .filter(({ setting }) => setting !== 'RUN_DIR')
      .map(({ directory }) => directory),
    maxTenants: settings.METRICS_MAX_TENANTS,
    onFault: (collector, reason) =>
      log?.warn({ step: collector, err: reason }, 'Cannot read a metric'),
  });
  const sink = new LineSink({
    target: settings.LOG_FILE === '' ? { fd: 1 } : { file: settings.LOG_FILE },
    maxBufferedBytes: MAX_LOG_BYTES,
    onDrop: (lines) => metrics.serviceLinesDropped(lines),
    describeDrops: (lines) =>
      `${JSON.stringify({ level: 'WARN', time: new Date().toISOString(), process: name, count: lines, msg: 'Lines of this log were dropped: its reader was too slow' })}\n`,
  });
  const written = createLog({
    level: settings.LOG_LEVEL,
    format: settings.LOG_FORMAT,
    sink,
    redact,
    process: name,
  });
  log = Object.assign(errors.watch(written), {
    setLevel: (level: typeof settings.LOG_LEVEL) => written.setLevel(level),
  });
  return {
    log,
    sink,
    metrics,
    errors,
    redact,
    settings: () => current.settings,
    replace: (next) => {
      current = next;
      masked = createRedact(secretsOf(next));
    },
  };
}

interface Obeying {
  readonly name: RoleName;
  readonly role: RunningRole;
  readonly link: RoleLink;
  readonly service: Service;
  readonly config: Config;
}

/** Takes reloads one after the other until the supervisor is gone. */
async function obey(
  orders: AsyncGenerator<ToRole>,
  { name, role, link, service, config }: Obeying,
): Promise<void> {
  let current = config;
  for await (const order of orders) {
    if (order.kind !== 'reload') continue;
    try {
      const next = parseConfig(order.environment);
      const changed = changedSettings(current, next);
      const taken = new Set<string>([
        ...(await role.reload(next, order.files)),
        ...RELOADABLE_EVERYWHERE,
      ]);
      const applied = changed.filter((each) => taken.has(each));
      service.log.setLevel(next.settings.LOG_LEVEL);
      service.sink.reopen();
      service.replace(next);
      current = next;
      service.metrics.configReloaded('applied');
      const pending = changed.filter((each) => !taken.has(each) && !isOthersBusiness(name, each));
      link.report({ kind: 'reloaded', applied, pending });
    } catch (reason) {
      service.metrics.configReloaded('refused');
      service.log.error({ err: reason }, 'Cannot reload the settings: the old ones stay');
      link.report({ kind: 'refused', message: messageOf(reason) });
    }
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) =>
    signal.addEventListener('abort', () => resolve(), { once: true }),
  );
}
