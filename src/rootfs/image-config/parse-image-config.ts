import { isUtf8 } from 'node:buffer';
import { isDigest, type Digest } from '../../core/digest.ts';
import { messageOf } from '../../core/errors.ts';
import type { Healthcheck, ImageConfig } from './image-config.ts';
import {
  badConfig,
  booleanField,
  field,
  integerField,
  isObject,
  listField,
  mapField,
  objectField,
  setField,
  shown,
  textField,
  type JsonObject,
} from './json-fields.ts';
import { parseEnv, parsePorts, parseVolumes, parseWorkingDir } from './run-fields.ts';
import { parseStopSignal } from './stop-signal.ts';
import { parseUserSpec } from './user-spec.ts';

/** security.md section 4; the registry client enforces the same bound while fetching. */
const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;
const MAX_HISTORY = 10_000;
/** Labels that containerd and the CRI act on (CVE-2026-53488). */
const RESERVED_LABEL = /^(?:containerd\.io\/|io\.containerd|io\.cri-containerd)/;

export interface ParseOptions {
  /** Layers of the manifest; the config must name as many diff IDs. */
  readonly layerCount: number;
}

/**
 * Reads an image config document. Refused with `image.bad_config`: wrong types, and values that
 * something will act on and that cannot mean what they say (user, working directory, NUL in argv
 * or env, diff IDs). Dropped with a warning: values that only describe (ports, volumes, stop
 * signal, malformed env entries). Duplicate keys were refused when the document was fetched.
 */
export function parseImageConfig(document: Buffer, { layerCount }: ParseOptions): ImageConfig {
  const root = parseDocument(document);
  const run = objectField(root, 'config') ?? {};
  const warnings: string[] = [];
  const warn = (message: string): void => void warnings.push(message);

  const userText = textField(run, 'User') ?? '';
  const stopSignalText = textField(run, 'StopSignal') ?? '';
  const stopSignal = parseStopSignal(stopSignalText);
  if (stopSignalText !== '' && stopSignal === undefined) {
    warn(`StopSignal ${shown(stopSignalText)} is no Linux signal; SIGTERM is used`);
  }
  const healthcheck = parseHealthcheck(run);
  const history = field(root, 'history') ?? [];
  if (!Array.isArray(history) || history.length > MAX_HISTORY) {
    throw badConfig(`history is not an array of at most ${MAX_HISTORY} items`);
  }
  return {
    os: requiredText(root, 'os'),
    architecture: requiredText(root, 'architecture'),
    ...optionalText(root, 'variant', 'variant'),
    ...optionalText(root, 'os.version', 'osVersion'),
    ...optionalText(root, 'author', 'author'),
    ...parseCreated(root, warn),
    historyCount: history.length,
    diffIds: parseDiffIds(root, layerCount),
    env: parseEnv(listField(run, 'Env') ?? [], warn),
    entrypoint: listField(run, 'Entrypoint') ?? [],
    cmd: listField(run, 'Cmd') ?? [],
    workingDir: parseWorkingDir(textField(run, 'WorkingDir') ?? ''),
    user: parseUserSpec(userText),
    userText,
    exposedPorts: parsePorts(setField(run, 'ExposedPorts') ?? [], warn),
    volumes: parseVolumes(setField(run, 'Volumes') ?? [], warn),
    ...(stopSignal === undefined ? {} : { stopSignal }),
    labels: parseLabels(run, warn),
    ...(healthcheck === undefined ? {} : { healthcheck }),
    onBuild: listField(run, 'OnBuild') ?? [],
    shell: listField(run, 'Shell') ?? [],
    argsEscaped: booleanField(run, 'ArgsEscaped') ?? false,
    warnings,
  };
}

function parseDocument(document: Buffer): JsonObject {
  if (document.length > MAX_DOCUMENT_BYTES) {
    throw badConfig(`it is larger than ${MAX_DOCUMENT_BYTES} bytes`);
  }
  if (!isUtf8(document)) throw badConfig('it is not valid UTF-8');
  let value: unknown;
  try {
    value = JSON.parse(document.toString('utf8'));
  } catch (reason) {
    throw badConfig(`it is not valid JSON (${shown(messageOf(reason))})`);
  }
  if (!isObject(value)) throw badConfig('it is not a JSON object');
  return value;
}

function requiredText(root: JsonObject, name: string): string {
  const value = textField(root, name);
  if (value === undefined || value === '') throw badConfig(`${name} is missing`);
  return value;
}

function optionalText<K extends string>(
  root: JsonObject,
  name: string,
  key: K,
): Partial<Record<K, string>> {
  const value = textField(root, name);
  const found: Partial<Record<K, string>> = {};
  if (value !== undefined && value !== '') found[key] = value;
  return found;
}

function parseCreated(root: JsonObject, warn: (message: string) => void): { created?: string } {
  const created = textField(root, 'created');
  if (created === undefined || created === '') return {};
  // RFC 3339 with any number of fraction digits, as Go writes it.
  const valid = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/;
  if (valid.test(created)) return { created };
  warn(`created ${shown(created)} is no RFC 3339 time; dropped`);
  return {};
}

function parseDiffIds(root: JsonObject, layerCount: number): readonly Digest[] {
  const rootfs = objectField(root, 'rootfs');
  if (rootfs === undefined) throw badConfig('rootfs is missing');
  const type = textField(rootfs, 'type');
  if (type !== 'layers') throw badConfig(`rootfs.type is ${shown(type ?? '')}, not "layers"`);
  const diffIds: Digest[] = [];
  for (const text of listField(rootfs, 'diff_ids') ?? []) {
    if (!isDigest(text)) throw badConfig(`the diff ID ${shown(text)} is not a digest`);
    diffIds.push(text);
  }
  if (diffIds.length !== layerCount) {
    throw badConfig(`it names ${diffIds.length} diff IDs for ${layerCount} layers`);
  }
  return diffIds;
}

function parseLabels(
  run: JsonObject,
  warn: (message: string) => void,
): ReadonlyMap<string, string> {
  const labels = new Map(mapField(run, 'Labels'));
  for (const key of [...labels.keys()].filter((key) => RESERVED_LABEL.test(key))) {
    labels.delete(key);
    warn(`Label ${shown(key)} is reserved for containerd; dropped`);
  }
  return labels;
}

function parseHealthcheck(run: JsonObject): Healthcheck | undefined {
  const check = objectField(run, 'Healthcheck');
  if (check === undefined) return undefined;
  const times = {
    intervalNs: integerField(check, 'Interval'),
    timeoutNs: integerField(check, 'Timeout'),
    startPeriodNs: integerField(check, 'StartPeriod'),
    startIntervalNs: integerField(check, 'StartInterval'),
    retries: integerField(check, 'Retries'),
  };
  const known = Object.entries(times).filter(([, value]) => value !== undefined);
  return { test: listField(check, 'Test') ?? [], ...Object.fromEntries(known) };
}
