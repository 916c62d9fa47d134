import { parse, TomlError } from 'smol-toml';
import { BuilderdError } from '../../core/errors.ts';
import { parseHttpUrl } from '../../egress/host.ts';

export type HostCapability = 'pull' | 'resolve';

/** One `[host."…"]` table, or the `server` of a hosts.toml. Paths of files are not read yet. */
export interface HostEntry {
  /** Scheme, host, port, and with `overridePath` the path that replaces `/v2`. */
  readonly url: URL;
  readonly capabilities: ReadonlySet<HostCapability>;
  readonly caFiles: readonly string[];
  readonly clientFiles?: { readonly cert: string; readonly key: string };
  readonly skipVerify: boolean;
  readonly headers: ReadonlyMap<string, string>;
  readonly overridePath: boolean;
}

const ALL: ReadonlySet<HostCapability> = new Set(['pull', 'resolve']);
const FORBIDDEN_HEADERS = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'range',
  'accept-encoding',
]);

/**
 * Parses containerd's hosts.toml: mirrors in the order of the file, `server` last. `upstream` is
 * the endpoint for a file without `server`. Unknown keys are refused: a misspelt `ca` must not
 * fall back to other trust. Throws `config.invalid`.
 */
export function parseHostsToml(text: string, file: string, upstream: URL): readonly HostEntry[] {
  const root = readToml(text, file);
  const { server, host, ...own } = root;
  // Keys of `server` may stand at the top level, as in a host table.
  const last = parseEntry(server === undefined ? upstream.href : server, own, file);
  if (host === undefined) return [last];
  const mirrors = Object.entries(asTable(host, 'host', file)).map(([key, table]) => {
    // JavaScript moves such keys to the front of an object: the order would be lost.
    if (/^\d+$/.test(key)) throw bad(file, `host ${JSON.stringify(key)} is not a URL`);
    return parseEntry(key, asTable(table, `host ${JSON.stringify(key)}`, file), file);
  });
  return [...mirrors, last];
}

function parseEntry(address: unknown, table: Record<string, unknown>, file: string): HostEntry {
  const url = parseAddress(address, file);
  const known = {
    capabilities: ALL,
    caFiles: [] as string[],
    skipVerify: false,
    overridePath: false,
  };
  let entry: Omit<HostEntry, 'url'> = { ...known, headers: new Map() };
  for (const [key, value] of Object.entries(table)) {
    switch (key) {
      case 'capabilities':
        entry = { ...entry, capabilities: parseCapabilities(value, file) };
        break;
      case 'ca':
        entry = { ...entry, caFiles: parsePaths(value, key, file) };
        break;
      case 'client':
        entry = { ...entry, clientFiles: parseClient(value, file) };
        break;
      case 'skip_verify':
        entry = { ...entry, skipVerify: parseBoolean(value, key, file) };
        break;
      case 'override_path':
        entry = { ...entry, overridePath: parseBoolean(value, key, file) };
        break;
      case 'header':
        entry = { ...entry, headers: parseHeaders(value, file) };
        break;
      case 'dial_timeout':
        break;
      default:
        throw bad(file, `it has the unknown key ${JSON.stringify(key.slice(0, 60))}`);
    }
  }
  return { url, ...entry };
}

function parseAddress(value: unknown, file: string): URL {
  if (typeof value !== 'string') throw bad(file, 'server is not text');
  try {
    return parseHttpUrl(value.includes('://') ? value : `https://${value}`);
  } catch (reason) {
    throw bad(file, `${JSON.stringify(value.slice(0, 100))} is not a host or an http URL`, reason);
  }
}

function parseCapabilities(value: unknown, file: string): ReadonlySet<HostCapability> {
  const found = new Set<HostCapability>();
  for (const each of asList(value, 'capabilities', file)) {
    if (each === 'pull' || each === 'resolve') found.add(each);
    else if (each !== 'push' && each !== 'referrers') throw bad(file, 'a capability is not known');
  }
  return found;
}

function parsePaths(value: unknown, key: string, file: string): string[] {
  const list = typeof value === 'string' ? [value] : asList(value, key, file);
  return list.map((each) => asText(each, key, file));
}

/** One PEM with both, `[cert, key]`, or `[[cert, key]]`; more than one pair is refused. */
function parseClient(value: unknown, file: string): { cert: string; key: string } {
  if (typeof value === 'string') return { cert: value, key: value };
  const list = asList(value, 'client', file);
  const pair = list.length === 1 && Array.isArray(list[0]) ? list[0] : list;
  if (pair.length === 0 || pair.length > 2) throw bad(file, 'client is not one pair of files');
  const cert = asText(pair[0], 'client', file);
  const key = asText(pair[1] ?? pair[0], 'client', file);
  return { cert, key: key === '' ? cert : key };
}

function parseHeaders(value: unknown, file: string): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  for (const [name, given] of Object.entries(asTable(value, 'header', file))) {
    const text = parsePaths(given, 'header', file).join(', ');
    const lower = name.toLowerCase();
    if (
      !/^[a-z0-9-]{1,64}$/.test(lower) ||
      FORBIDDEN_HEADERS.has(lower) ||
      !/^[\x20-\x7e]*$/.test(text)
    ) {
      throw bad(file, `header ${JSON.stringify(name.slice(0, 60))} cannot be sent`);
    }
    headers.set(lower, text);
  }
  return headers;
}

function parseBoolean(value: unknown, key: string, file: string): boolean {
  if (typeof value === 'boolean') return value;
  throw bad(file, `${key} is not true or false`);
}

function asText(value: unknown, key: string, file: string): string {
  if (typeof value === 'string') return value;
  throw bad(file, `${key} is not text`);
}

function asList(value: unknown, key: string, file: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw bad(file, `${key} is not a list`);
}

function asTable(value: unknown, key: string, file: string): Record<string, unknown> {
  if (
    typeof value !== 'object' ||
    value === null ||
    Array.isArray(value) ||
    value instanceof Date
  ) {
    throw bad(file, `${key} is not a table`);
  }
  return Object.fromEntries(Object.entries(value));
}

function readToml(text: string, file: string): Record<string, unknown> {
  try {
    return parse(text);
  } catch (reason) {
    if (reason instanceof TomlError)
      throw bad(file, `it is not TOML (line ${reason.line})`, reason);
    throw reason;
  }
}

function bad(file: string, fact: string, cause?: unknown): BuilderdError {
  return new BuilderdError(
    'config.invalid',
    `Cannot use ${file}: ${fact}`,
    cause === undefined ? {} : { cause },
  );
}
