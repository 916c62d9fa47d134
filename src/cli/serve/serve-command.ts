import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { tlsContextOptions } from '../../api/server/tls-settings.ts';
import { BuilderdError, messageOf } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import {
  type Config,
  parseConfig,
  processEnvironment,
  readSettingsText,
  secretsOf,
  serviceEnvironment,
  serviceManager,
  shadowedSettings,
} from '../config.ts';
import type { Io } from '../io.ts';
import { createLog, type ServiceLog } from '../logging/create-log.ts';
import { LineSink, type LineSinkOptions } from '../logging/line-sink.ts';
import { createRedact } from '../logging/redact.ts';
import { oneLine } from '../print-fault.ts';
import { builderdVersion } from '../version.ts';
import { checkSettings } from './check-settings.ts';
import { keepMemoryPrivate } from './keep-memory-private.ts';
import { returnMemoryOnceStarted } from './return-memory.ts';
import { connectServiceManager } from './service-manager.ts';
import { type Identity, ROLES, type RoleName } from './role-protocol.ts';
import { makeLogDirectory, prepareDirectories, questionablePlaces } from './service-directories.ts';
import { findServiceUser } from './service-user.ts';
import { Supervisor } from './supervisor.ts';

export interface ServeOptions {
  readonly role: 'all' | RoleName;
  readonly config?: string;
}

/** Beyond their own patience: what the executor hands back has to be undone first. */
const STOP_GRACE_MS = 35_000;
const FLUSH_MS = 1000;
const MAX_LOG_BYTES = 1024 * 1024;
const MAX_FILE_BYTES = 1024 * 1024;

interface Loaded {
  /** Set by the file in vain: the environment has another value. */
  readonly shadowed: readonly string[];
  readonly config: Config;
  readonly environment: Record<string, string>;
  readonly files: Record<string, string>;
  readonly identity: Identity | undefined;
}

/** `builderd serve`: keeps the roles running until a signal. */
export async function runServe(options: ServeOptions, io: Io): Promise<void> {
  const ignored: { log?: ServiceLog } = {};
  // Without a listener Node would open its debugger.
  process.on('SIGUSR1', () => ignored.log?.warn({ signal: 'SIGUSR1' }, 'Ignored a signal'));
  const unguarded = keepMemoryPrivate();
  const first = await load(options.config, io.signal);
  const { settings } = first.config;
  await prepareDirectories(settings, first.identity, ({ message }) =>
    io.stderr.write(`builderd: ${oneLine(message)}\n`),
  );
  if (settings.LOG_FILE !== '') await makeLogDirectory(settings.LOG_FILE, first.identity);
  let current = first;
  let redact = createRedact(secretsOf(first.config));
  const sink = new LineSink({
    target: settings.LOG_FILE === '' ? { fd: 1 } : logFile(settings.LOG_FILE, first.identity),
    maxBufferedBytes: MAX_LOG_BYTES,
    onDrop: () => undefined,
    describeDrops: (lines) =>
      `${JSON.stringify({ level: 'WARN', process: 'supervisor', count: lines, msg: 'Lines of this log were dropped: its reader was too slow' })}\n`,
  });
  const log = createLog({
    level: settings.LOG_LEVEL,
    format: settings.LOG_FORMAT,
    sink,
    redact: (line) => redact(line),
    process: 'supervisor',
  });
  ignored.log = log;
  const manager = connectServiceManager(serviceManager(), (reason) =>
    log.warn({ err: reason }, 'Cannot talk to the service manager'),
  );
  const supervisor = new Supervisor({
    roles: options.role === 'all' ? ROLES : [options.role],
    log,
    manager,
    processEnvironment: processEnvironment(),
    startMessage: (role) => ({
      environment: current.environment,
      files: filesFor(role, current),
      alone: options.role !== 'all',
      ...(current.identity === undefined ? {} : { identity: current.identity }),
    }),
    stopLimitMs: settings.SHUTDOWN_TIMEOUT + STOP_GRACE_MS,
  });

  let stopping = false;
  let reloads = Promise.resolve();
  const reload = async (): Promise<void> => {
    manager.reloading();
    try {
      const next = await load(options.config, io.signal);
      current = next;
      redact = createRedact(secretsOf(next.config));
      log.setLevel(next.config.settings.LOG_LEVEL);
      sink.reopen();
      supervisor.reload((role) => ({
        kind: 'reload',
        environment: next.environment,
        files: filesFor(role, next),
      }));
      log.info({ signal: 'SIGHUP' }, 'Read the settings again');
      warnOfShadows(next, log);
    } catch (reason) {
      log.error({ err: reason, signal: 'SIGHUP' }, 'Cannot reload: the old settings stay');
    }
    manager.notify('READY=1');
  };
  io.ownSignals?.((signal) => {
    if (signal === 'SIGHUP') {
      // One after the other, in the order of the signals.
      reloads = reloads.then(reload);
    } else if (stopping) {
      supervisor.kill();
    } else {
      stopping = true;
      supervisor.stop(signal);
    }
  });

  log.info(
    { count: first.config.given.size, pid: process.pid },
    `builderd ${builderdVersion()} starts`,
  );
  warnOfShadows(first, log);
  for (const fact of await questionablePlaces(settings)) log.warn({ step: 'start' }, fact);
  if (unguarded !== undefined) {
    log.warn({ code: unguarded }, 'A core dump of this service would hold its memory');
  }
  const settling = returnMemoryOnceStarted();
  try {
    await supervisor.run();
    await reloads;
    log.info({}, 'The service has ended');
  } finally {
    clearTimeout(settling);
    await sink.flush(FLUSH_MS);
  }
}

/** The key of the API is for the process that speaks TLS, and for no other. */
function filesFor(role: RoleName, { files }: Loaded): Record<string, string> {
  return role === 'api' ? files : {};
}

function logFile(file: string, owner: Identity | undefined): LineSinkOptions['target'] {
  return owner === undefined ? { file } : { file, owner };
}

/** An EnvironmentFile beside --config: what is changed in the file would have no effect. */
function warnOfShadows({ shadowed }: Loaded, log: Log): void {
  if (shadowed.length === 0) return;
  log.warn({ setting: shadowed.join(' ') }, 'The environment overrides settings of the file');
}

/** Reads and checks everything before anything is changed: a broken file changes nothing. */
async function load(file: string | undefined, signal: AbortSignal): Promise<Loaded> {
  const isRoot = process.getuid?.() === 0;
  const text = readSettingsText(file);
  const config = parseConfig(text.values);
  checkSettings(config);
  const identity = isRoot
    ? await findServiceUser(config.settings.SERVICE_USER, { signal, searchPath: config.searchPath })
    : undefined;
  return {
    shadowed: shadowedSettings(text),
    config,
    environment: serviceEnvironment(text),
    files: await readTlsFiles(config),
    identity,
  };
}

async function readTlsFiles({ settings }: Config): Promise<Record<string, string>> {
  if (settings.TLS_MODE !== 'file') return {};
  const files: Record<string, string> = {};
  for (const name of ['TLS_CERT_FILE', 'TLS_KEY_FILE', 'TLS_CA_FILE'] as const) {
    if (settings[name] !== '') files[name] = await readBounded(name, settings[name]);
  }
  const { TLS_CERT_FILE: cert = '', TLS_KEY_FILE: key = '', TLS_CA_FILE: clientCa } = files;
  tlsContextOptions({ cert, key, ...(clientCa === undefined ? {} : { clientCa }) });
  return files;
}

async function readBounded(name: string, file: string): Promise<string> {
  try {
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const { size } = await handle.stat();
      if (size > MAX_FILE_BYTES) throw new Error(`it is larger than ${MAX_FILE_BYTES} bytes`);
      return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  } catch (reason) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot read UNKEY_BUILDERD_${name} ${JSON.stringify(file)}: ${messageOf(reason)}`,
      { cause: reason },
    );
  }
}
