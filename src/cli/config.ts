import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { parseEnv } from 'node:util';
import { BuilderdError, errnoOf, messageOf } from '../core/errors.ts';
import { closestTo } from './closest.ts';
import type { Setting } from './setting-kinds.ts';
import { SETTINGS, type SettingName } from './settings.ts';
import { whoElseMayChange, whoElseMayWrite } from './trusted-path.ts';

export const PREFIX = 'UNKEY_BUILDERD_';

type ValueOf<S> = S extends Setting<infer T> ? T : never;

/** Every setting under the name that operators know, parsed. */
export type Settings = { readonly [K in SettingName]: ValueOf<(typeof SETTINGS)[K]> };

export interface Config {
  readonly settings: Settings;
  /** Names that the environment sets, for a message that says where a value comes from. */
  readonly given: ReadonlySet<SettingName>;
  /** All names, in the order of the table. */
  readonly names: readonly SettingName[];
  /** SOURCE_DATE_EPOCH, the convention of reproducible-builds.org. */
  readonly sourceDateEpoch?: string;
  /** OpenTelemetry's own variables. */
  readonly standardOtel: Environment;
  /** Where programs are looked for. */
  readonly searchPath: string;
  /** Directory of docker's config.json. */
  readonly dockerConfigDir: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** The environment and the file below it, before anything is parsed. */
export interface SettingsText {
  readonly values: Environment;
  readonly file?: { readonly path: string; readonly values: Environment };
}

/** The only reader of the process environment. `file` adds an environment file below it. */
export function loadConfig(file?: string): Config {
  return parseConfig(readSettingsText(file).values);
}

export function readSettingsText(file?: string): SettingsText {
  if (file === undefined) return { values: process.env };
  const values = readFile(file);
  return { values: { ...values, ...process.env }, file: { path: file, values } };
}

/** Names that the file sets in vain: the environment says something else. */
export function shadowedSettings({ values, file }: SettingsText): string[] {
  return Object.entries(file?.values ?? {})
    .filter(([name, value]) => name.startsWith(PREFIX) && values[name] !== value)
    .map(([name]) => name.slice(PREFIX.length));
}

/**
 * What a process of the service is told: our settings, and what other parts of a program look at.
 * Everything else that the environment holds stays out of it.
 */
export function serviceEnvironment({ values }: SettingsText): Record<string, string> {
  const kept =
    /^(?:UNKEY_BUILDERD_\w+|OTEL_\w+|PATH|HOME|LANG|TZ|DOCKER_CONFIG|SSL_CERT_(?:FILE|DIR))$/;
  const shown: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) {
    if (kept.test(name) && value !== undefined) shown[name] = value;
  }
  return shown;
}

/** What the processes of the service get as their real environment: nothing that is secret. */
export function processEnvironment(): Record<string, string> {
  const shown: Record<string, string> = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  for (const name of [
    'PATH',
    'LANG',
    'TZ',
    'NODE_EXTRA_CA_CERTS',
    'SSL_CERT_FILE',
    'SSL_CERT_DIR',
  ]) {
    const value = process.env[name];
    if (value !== undefined) shown[name] = value;
  }
  return shown;
}

/** NOTIFY_SOCKET and WATCHDOG_USEC of systemd, for the one process that talks to it. */
export function serviceManager(): { readonly socket?: string; readonly watchdogMs?: number } {
  const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: watchdog = '' } = process.env;
  return {
    ...(socket === undefined || socket === '' ? {} : { socket }),
    ...(/^[1-9]\d{0,12}$/.test(watchdog) ? { watchdogMs: Number(watchdog) / 1000 } : {}),
  };
}

/** Whether stack traces are wanted, also when the settings themselves are the fault. */
export function debugRequested(): boolean {
  return process.env[`${PREFIX}LOG_LEVEL`] === 'debug';
}

/**
 * Throws `config.invalid` for a bad value and for an unknown name with our prefix: a misspelt
 * limit must not be a missing limit. An empty value is an unset one.
 */
export function parseConfig(environment: Environment): Config {
  const given = new Set<SettingName>();
  for (const [variable, value] of Object.entries(environment)) {
    if (!variable.startsWith(PREFIX)) continue;
    const name = variable.slice(PREFIX.length);
    if (!isSetting(name)) throw unknownName(name);
    if (value !== undefined && value !== '') given.add(name);
  }
  const values = new Map<string, unknown>();
  for (const name of settingNames()) values.set(name, parseOne(name, environment));
  const epoch = environment['SOURCE_DATE_EPOCH'];
  return {
    // The table above gives each name its own type; a loop over it cannot show that.
    settings: Object.fromEntries(values) as unknown as Settings,
    given,
    names: settingNames(),
    standardOtel: Object.fromEntries(
      Object.entries(environment).filter(([name]) => name.startsWith('OTEL_')),
    ),
    searchPath: environment['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
    dockerConfigDir: environment['DOCKER_CONFIG'] ?? `${environment['HOME'] ?? homedir()}/.docker`,
    ...(epoch === undefined || epoch === '' ? {} : { sourceDateEpoch: epoch }),
  };
}

/** Values that no line of output may hold. */
export function secretsOf({ settings, names, standardOtel }: Config): string[] {
  const secrets: string[] = [];
  for (const [name, value] of Object.entries(standardOtel)) {
    // Header values are the keys of telemetry vendors.
    if (!name.endsWith('_HEADERS')) continue;
    for (const pair of (value ?? '').split(','))
      secrets.push(pair.slice(pair.indexOf('=') + 1).trim());
  }
  for (const name of names) {
    const value = settings[name];
    if (!isSecret(name) || typeof value !== 'string' || value === '') continue;
    secrets.push(value);
    // The password alone, as a driver's message may show it.
    const password = URL.parse(value)?.password ?? '';
    if (password !== '') secrets.push(password, decodeURIComponent(password));
  }
  return secrets;
}

export function isSecret(name: SettingName): boolean {
  return 'secret' in SETTINGS[name];
}

function parseOne(name: SettingName, environment: Environment): unknown {
  const setting: Setting<unknown> = SETTINGS[name];
  const value = environment[PREFIX + name];
  if (value === undefined || value === '') return setting.fallback;
  const parsed = setting.parse(value);
  if (parsed !== undefined) return parsed;
  const found = 'secret' in setting ? 'its value' : JSON.stringify(value.slice(0, 100));
  throw new BuilderdError(
    'config.invalid',
    `Cannot use ${found} for ${PREFIX}${name}: want ${setting.wanted}`,
  );
}

function unknownName(name: string): BuilderdError {
  const near = closestTo(name, settingNames());
  const advice = near === undefined ? '' : `; did you mean ${PREFIX}${near}?`;
  return new BuilderdError(
    'config.invalid',
    `Cannot use ${PREFIX}${name.slice(0, 60)}: there is no such setting${advice}`,
  );
}

export function isSetting(name: string): name is SettingName {
  return Object.hasOwn(SETTINGS, name);
}

export function settingNames(): readonly SettingName[] {
  return Object.keys(SETTINGS).filter((name) => isSetting(name));
}

const MAX_FILE_BYTES = 1024 * 1024;

function readFile(file: string): Environment {
  try {
    return parseEnv(process.getuid?.() === 0 ? readAsRoot(file) : readFileSync(file, 'utf8'));
  } catch (reason) {
    if (reason instanceof BuilderdError) throw reason;
    throw new BuilderdError(
      'config.invalid',
      `Cannot read the environment file ${JSON.stringify(file)}: ${messageOf(reason)}`,
      { cause: reason },
    );
  }
}

/**
 * Whoever can write the settings decides what root runs (MASTER_KEY_COMMAND, sockets, paths). Looked
 * at before a byte is read, and what was looked at is what is read.
 */
function readAsRoot(file: string): string {
  const refuse = (fact: string): never => {
    throw new BuilderdError(
      'config.invalid',
      `Cannot take settings from ${JSON.stringify(file)}: ${fact}; want root:root 0640 or stricter, below directories that only root may write`,
    );
  };
  const owners = new Set([0]);
  const above = whoElseMayChange(path.dirname(path.resolve(file)), owners);
  if (above !== undefined) refuse(above);
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (reason) {
    if (errnoOf(reason) === 'ELOOP') return refuse('it is a symbolic link');
    throw reason;
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) refuse('it is no file');
    const fact = whoElseMayWrite(stat, owners);
    if (fact !== undefined) refuse(fact);
    if (stat.size > MAX_FILE_BYTES) refuse(`it is larger than ${MAX_FILE_BYTES} bytes`);
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}
