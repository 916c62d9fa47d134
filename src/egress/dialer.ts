import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import {
  connect as connectTls,
  createSecureContext,
  getCACertificates,
  type SecureContext,
} from 'node:tls';
import { callbackify } from 'node:util';
import type { Agent, buildConnector } from 'undici';
import { BuilderdError } from '../core/errors.ts';
import { type AddressBytes, classifyAddress, formatAddress, parseAddress } from './address.ts';
import type { EgressAllowList } from './allow-list.ts';
import { type RateFloor, withRateFloor } from './body-limits.ts';
import { fromEgressFault, unreachable } from './faults.ts';
import { canonicalHost, hostPortOf } from './host.ts';

/** TLS settings of one endpoint; made from the operator's files only. */
export interface TlsProfile {
  /** PEM. Trusted for this endpoint beside the system's roots, as containerd does. */
  readonly ca?: readonly string[];
  readonly clientCert?: { readonly cert: string; readonly key: string };
  /** hosts.toml `skip_verify`. Verification is on for everything else. */
  readonly skipVerify?: boolean;
}

export interface EgressLimits {
  readonly connectTimeoutMs: number;
  readonly headersTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly wallTimeMs: number;
  readonly maxHeaderBytes: number;
  readonly rateFloor: RateFloor;
}

export const DEFAULT_EGRESS_LIMITS: EgressLimits = {
  connectTimeoutMs: 10_000,
  headersTimeoutMs: 30_000,
  idleTimeoutMs: 30_000,
  wallTimeMs: 30 * 60_000,
  maxHeaderBytes: 16 * 1024,
  rateFloor: { minBytesPerSecond: 1024, windowMs: 60_000 },
};

/** Addresses of one name that are tried at most, in the resolver's order. */
const MAX_DIALED_ADDRESSES = 4;

export type ResolveName = (host: string) => Promise<readonly string[]>;

export interface DialerOptions {
  readonly allow: EgressAllowList;
  readonly limits?: Partial<EgressLimits>;
  /** Default: the system's resolver. */
  readonly resolveName?: ResolveName;
}

export interface EgressRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE';
  readonly headers: Readonly<Record<string, string>>;
  /** Must not change until the answer has come. */
  readonly body?: string | Uint8Array;
  readonly tls?: TlsProfile;
  readonly signal: AbortSignal;
}

export interface EgressResponse {
  readonly status: number;
  /** One value of a header, lower-case name; several are joined by ", ". */
  header(name: string): string | undefined;
  /** Raw bytes as sent, never decoded. Read it once, or call `discard`. */
  readonly body: AsyncIterable<Buffer>;
  discard(): void;
}

/** The guarded dialer. Disposal closes every connection. */
export interface Dialer extends AsyncDisposable {
  /**
   * One request to one hop; redirects are answers like any other. Throws
   * `source.denied_address`, `source.unreachable`, `source.invalid`, `build.cancelled`.
   */
  request(url: URL, request: EgressRequest): Promise<EgressResponse>;
}

const DEFAULT_TLS: TlsProfile = {};

export function createDialer(options: DialerOptions): Dialer {
  const limits = { ...DEFAULT_EGRESS_LIMITS, ...options.limits };
  const resolveName = options.resolveName ?? resolveBySystem;
  // By content: the same files read again are the same settings, and share connections.
  const agents = new Map<string, Agent>();

  const agentFor = async (tls: TlsProfile): Promise<Agent> => {
    // Loaded when first needed: a build from the store never dials, and should not pay for it.
    const { Agent } = await import('undici');
    const key = JSON.stringify([tls.ca, tls.clientCert, tls.skipVerify]);
    const known = agents.get(key);
    if (known !== undefined) return known;
    const agent = new Agent({
      connect: guardedConnector({
        allow: options.allow,
        resolveName,
        limits,
        tls: lazily(() => loadTls(tls)),
      }),
      maxHeaderSize: limits.maxHeaderBytes,
      bodyTimeout: limits.idleTimeoutMs,
      headersTimeout: limits.headersTimeoutMs,
      connections: 16,
      pipelining: 1,
      allowH2: false,
    });
    agents.set(key, agent);
    return agent;
  };

  return {
    request: async (url, request) =>
      requestOnce(await agentFor(request.tls ?? DEFAULT_TLS), url, request, limits),
    async [Symbol.asyncDispose]() {
      const open = [...agents.values()];
      agents.clear();
      await Promise.all(open.map((agent) => agent.destroy()));
    },
  };
}

async function requestOnce(
  agent: Agent,
  url: URL,
  request: EgressRequest,
  limits: EgressLimits,
): Promise<EgressResponse> {
  const doing = `${request.method} from ${hostPortOf(url)}`;
  const control = new AbortController();
  const onAbort = (): void => control.abort(request.signal.reason);
  request.signal.addEventListener('abort', onAbort, { once: true });
  if (request.signal.aborted) onAbort();
  const headersTimer = abortLater(control, limits.headersTimeoutMs, () =>
    unreachable(doing, `no answer in ${limits.headersTimeoutMs / 1000} s`, undefined, true),
  );
  const wallTimer = abortLater(control, limits.wallTimeMs, () =>
    unreachable(doing, `the transfer took over ${limits.wallTimeMs / 1000} s`, undefined, true),
  );
  const release = (): void => {
    clearTimeout(headersTimer);
    clearTimeout(wallTimer);
    request.signal.removeEventListener('abort', onAbort);
  };
  const explain = (reason: unknown): BuilderdError =>
    control.signal.aborted
      ? explainAbort(control.signal.reason, doing)
      : fromEgressFault(reason, doing);
  try {
    const answer = await agent.request({
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: request.method,
      headers: { 'accept-encoding': 'identity', ...request.headers },
      body: request.body ?? null,
      signal: control.signal,
    });
    clearTimeout(headersTimer);
    // Without this, a body that fails before it is read would be an uncaught 'error' event.
    answer.body.on('error', release);
    return {
      status: answer.statusCode,
      header: (name) => joinHeader(answer.headers[name]),
      body: readBody(answer.body, { doing, floor: limits.rateFloor, release, explain }),
      discard: () => {
        release();
        // An answer to HEAD has no body: its connection can be used again. Any other is cut off.
        if (request.method === 'HEAD') answer.body.resume();
        else answer.body.destroy();
      },
    };
  } catch (reason) {
    release();
    throw explain(reason);
  }
}

async function* readBody(
  body: AsyncIterable<Buffer>,
  use: {
    readonly doing: string;
    readonly floor: RateFloor;
    readonly release: () => void;
    readonly explain: (reason: unknown) => BuilderdError;
  },
): AsyncGenerator<Buffer, void, void> {
  try {
    yield* withRateFloor(body, use.floor, use.doing, () => performance.now());
  } catch (reason) {
    throw use.explain(reason);
  } finally {
    use.release();
  }
}

function joinHeader(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(', ') : value;
}

function abortLater(
  control: AbortController,
  afterMs: number,
  reason: () => BuilderdError,
): NodeJS.Timeout {
  return setTimeout(() => control.abort(reason()), afterMs).unref();
}

function explainAbort(reason: unknown, doing: string): BuilderdError {
  if (reason instanceof BuilderdError) return reason;
  return new BuilderdError('build.cancelled', `Cannot ${doing}: it was cancelled`, {
    cause: reason,
  });
}

interface ConnectorOptions {
  readonly allow: EgressAllowList;
  readonly resolveName: ResolveName;
  readonly limits: EgressLimits;
  readonly tls: () => LoadedTls;
}

/** Roots are parsed once for each profile, not for each connection. */
interface LoadedTls {
  readonly skipVerify: boolean;
  readonly context: SecureContext;
}

function lazily<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function loadTls(tls: TlsProfile): LoadedTls {
  const system = getCACertificates('system');
  const roots = system.length > 0 ? system : getCACertificates('bundled');
  const context = createSecureContext({
    ca: [...roots, ...(tls.ca ?? [])],
    minVersion: 'TLSv1.2',
    ...tls.clientCert,
  });
  return { skipVerify: tls.skipVerify === true, context };
}

function guardedConnector(options: ConnectorOptions): buildConnector.connector {
  const dialTarget = callbackify((target: buildConnector.Options) => dial(target, options));
  return (target, callback) =>
    dialTarget(target, (fault: Error | null, socket) =>
      fault === null ? callback(null, socket) : callback(fault, null),
    );
}

async function dial(
  target: buildConnector.Options,
  { allow, resolveName, limits, tls }: ConnectorOptions,
): Promise<Socket> {
  const host = canonicalHost(target.hostname);
  const isHttps = target.protocol === 'https:';
  const port = target.port === '' ? (isHttps ? 443 : 80) : Number(target.port);
  const stop = AbortSignal.timeout(limits.connectTimeoutMs);
  const doing = `connect to ${target.hostname}:${port}`;
  const addresses = await raceAbort(addressesOf(host, resolveName), stop, doing);
  const permitted = addresses.filter((address) => allow.permits({ host, address, port }));
  if (permitted.length === 0) throw denied(host, port, addresses);
  let fault: unknown;
  for (const address of permitted.slice(0, MAX_DIALED_ADDRESSES)) {
    try {
      const socket = await connectTo(formatAddress(address), port, stop, doing);
      return isHttps ? await secure(socket, host, tls(), stop, doing) : socket;
    } catch (reason) {
      fault = reason;
      if (stop.aborted) break;
    }
  }
  throw fault;
}

async function addressesOf(host: string, resolveName: ResolveName): Promise<AddressBytes[]> {
  const texts = isIP(host) === 0 ? await resolveName(host) : [host];
  const addresses = texts.map(parseAddress).filter((address) => address !== undefined);
  if (addresses.length === 0) {
    throw unreachable(`resolve ${host}`, 'it has no usable address', undefined, true);
  }
  return addresses;
}

async function resolveBySystem(host: string): Promise<readonly string[]> {
  const found = await lookup(host, { all: true, order: 'verbatim' });
  return found.map((each) => each.address);
}

function denied(host: string, port: number, addresses: readonly AddressBytes[]): BuilderdError {
  const [first] = addresses;
  // The address itself is not shown for names: it would map the inner network for the asker.
  const what = first === undefined ? 'no address' : `a ${classifyAddress(first)} address`;
  return new BuilderdError(
    'source.denied_address',
    `Cannot connect to ${host.includes(':') ? `[${host}]` : host}:${port}: it is ${what}, which is not allowed`,
  );
}

async function connectTo(
  address: string,
  port: number,
  stop: AbortSignal,
  doing: string,
): Promise<Socket> {
  const socket = connectTcp({ host: address, port, noDelay: true, keepAlive: true });
  return ready(socket, 'connect', stop, doing);
}

async function secure(
  raw: Socket,
  host: string,
  tls: LoadedTls,
  stop: AbortSignal,
  doing: string,
): Promise<Socket> {
  const socket = connectTls({
    socket: raw,
    // Verified against the name that was asked for, never against what was resolved.
    host,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    rejectUnauthorized: !tls.skipVerify,
    ALPNProtocols: ['http/1.1'],
    secureContext: tls.context,
  });
  return ready(socket, 'secureConnect', stop, doing);
}

async function ready<T extends Socket>(
  socket: T,
  event: string,
  stop: AbortSignal,
  doing: string,
): Promise<T> {
  try {
    await once(socket, event, { signal: stop });
    return socket;
  } catch (reason) {
    // A late fault of a socket that nobody uses any more has no other reader.
    socket.on('error', () => socket.destroy());
    socket.destroy();
    throw stop.aborted ? timedOut(doing) : reason;
  }
}

async function raceAbort<T>(work: Promise<T>, stop: AbortSignal, doing: string): Promise<T> {
  const timeout = Promise.withResolvers<never>();
  const onAbort = (): void => timeout.reject(timedOut(doing));
  stop.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, timeout.promise]);
  } finally {
    stop.removeEventListener('abort', onAbort);
  }
}

function timedOut(doing: string): BuilderdError {
  return unreachable(doing, 'it took too long', undefined, true);
}
