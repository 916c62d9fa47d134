import { readdir, readFile } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { isAbsolute, join } from 'node:path';
import { BuilderdError, errnoOf, messageOf } from '../../core/errors.ts';
import type { TlsProfile } from '../../egress/dialer.ts';
import { isSameOrigin, parseHttpUrl } from '../../egress/host.ts';
import { credentialHost } from './docker-config.ts';
import { type HostCapability, type HostEntry, parseHostsToml } from './hosts-toml.ts';
import { apiHostOf } from './reference.ts';

/** One place to ask for a repository, ready to use. */
export interface RegistryEndpoint {
  /** Ends without a slash; `/<repository>/manifests/…` is appended. */
  readonly base: URL;
  readonly capabilities: ReadonlySet<HostCapability>;
  readonly headers: ReadonlyMap<string, string>;
  readonly tls?: TlsProfile;
  /** Key for credentials: `host[:port]`, Docker Hub is `docker.io`. */
  readonly credentialHost: string;
  /** The registry that a mirror stands for (`?ns=`); absent for the registry itself. */
  readonly mirrorOf?: string;
}

export interface HostsConfig {
  /** Mirrors in the order of the file, the registry itself last. Throws `config.invalid`. */
  endpointsFor(
    registry: string,
    call: { readonly signal: AbortSignal },
  ): Promise<readonly RegistryEndpoint[]>;
}

const MAX_FILE_BYTES = 1024 * 1024;

/** Reads containerd's certs.d layout at each question; without a directory, defaults only. */
export function hostsConfig(certsDir: string | undefined): HostsConfig {
  return {
    async endpointsFor(registry, { signal }) {
      const upstream = defaultUpstream(registry);
      for (const dir of candidateDirs(certsDir, registry)) {
        const found = await readDir(dir, upstream, signal);
        if (found === undefined) continue;
        return Promise.all(found.map((entry) => toEndpoint(entry, { registry, dir, signal })));
      }
      const entry = plainEntry(upstream);
      return [await toEndpoint(entry, { registry, dir: '/', signal })];
    },
  };
}

/** https, but plain http for a loopback host unless its port is 443: as every peer reads it. */
function defaultUpstream(registry: string): URL {
  const host = apiHostOf(registry);
  const url = parseHttpUrl(`https://${host}`);
  const isLoopback =
    url.hostname === 'localhost' ||
    url.hostname === '[::1]' ||
    (isIPv4(url.hostname) && url.hostname.startsWith('127.'));
  return isLoopback && !host.endsWith(':443') ? parseHttpUrl(`http://${host}`) : url;
}

function candidateDirs(certsDir: string | undefined, registry: string): string[] {
  if (certsDir === undefined) return [];
  const [, host = registry, port] = /^(.*?)(?::(\d+))?$/.exec(registry) ?? [];
  const names = port === undefined ? [host] : [`${host}_${port}_`, `${host}:${port}`, host];
  return [...names, '_default'].map((name) => join(certsDir, name));
}

async function readDir(
  dir: string,
  upstream: URL,
  signal: AbortSignal,
): Promise<readonly HostEntry[] | undefined> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (reason) {
    if (errnoOf(reason) === 'ENOENT') return undefined;
    throw unreadable(dir, reason);
  }
  if (names.includes('hosts.toml')) {
    const file = join(dir, 'hosts.toml');
    return parseHostsToml((await readBounded(file, signal)).toString('utf8'), file, upstream);
  }
  return dockerStyle(dir, names, upstream);
}

/** Docker's own layout: *.crt are roots, one *.cert with its *.key is the client. */
function dockerStyle(
  dir: string,
  names: string[],
  upstream: URL,
): readonly HostEntry[] | undefined {
  const roots = names.filter((name) => name.endsWith('.crt')).sort();
  const [cert] = names.filter((name) => name.endsWith('.cert')).sort();
  if (roots.length === 0 && cert === undefined) return undefined;
  const key = cert?.replace(/\.cert$/, '.key');
  return [
    {
      ...plainEntry(parseHttpUrl(upstream.href.replace(/^http:/, 'https:'))),
      caFiles: roots.map((name) => join(dir, name)),
      ...(cert === undefined || key === undefined
        ? {}
        : { clientFiles: { cert: join(dir, cert), key: join(dir, key) } }),
    },
  ];
}

function plainEntry(url: URL): HostEntry {
  return {
    url,
    capabilities: new Set(['pull', 'resolve']),
    caFiles: [],
    skipVerify: false,
    headers: new Map(),
    overridePath: false,
  };
}

async function toEndpoint(
  entry: HostEntry,
  at: { readonly registry: string; readonly dir: string; readonly signal: AbortSignal },
): Promise<RegistryEndpoint> {
  const base = new URL(entry.url);
  base.search = '';
  base.hash = '';
  const path = base.pathname.replace(/\/+$/, '');
  base.pathname = entry.overridePath ? path : path.endsWith('/v2') ? path : `${path}/v2`;
  const isRegistry =
    isSameOrigin(base, defaultUpstream(at.registry)) || base.host === apiHostOf(at.registry);
  const tls = await readTls(entry, at.dir, at.signal);
  return {
    base,
    capabilities: entry.capabilities,
    headers: entry.headers,
    credentialHost: isRegistry ? at.registry : (credentialHost(base.host) ?? base.host),
    ...(tls === undefined ? {} : { tls }),
    ...(isRegistry ? {} : { mirrorOf: at.registry }),
  };
}

async function readTls(
  entry: HostEntry,
  dir: string,
  signal: AbortSignal,
): Promise<TlsProfile | undefined> {
  const { caFiles, clientFiles, skipVerify } = entry;
  if (caFiles.length === 0 && clientFiles === undefined && !skipVerify) return undefined;
  const read = async (file: string): Promise<string> =>
    (await readBounded(isAbsolute(file) ? file : join(dir, file), signal)).toString('utf8');
  const ca = await Promise.all(caFiles.map(read));
  const client =
    clientFiles === undefined
      ? undefined
      : { cert: await read(clientFiles.cert), key: await read(clientFiles.key) };
  return {
    ...(ca.length === 0 ? {} : { ca }),
    ...(client === undefined ? {} : { clientCert: client }),
    ...(skipVerify ? { skipVerify } : {}),
  };
}

async function readBounded(file: string, signal: AbortSignal): Promise<Buffer> {
  try {
    const bytes = await readFile(file, { signal });
    if (bytes.length <= MAX_FILE_BYTES) return bytes;
  } catch (reason) {
    throw unreadable(file, reason);
  }
  throw new BuilderdError(
    'config.invalid',
    `Cannot read ${file}: it is larger than ${MAX_FILE_BYTES} bytes`,
  );
}

function unreadable(path: string, reason: unknown): BuilderdError {
  return new BuilderdError(
    'config.invalid',
    `Cannot read ${path}: ${errnoOf(reason) ?? messageOf(reason)}`,
    {
      cause: reason,
    },
  );
}
