import { Agent, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import { BuilderdError } from '../../../core/errors.ts';
import { connectionFault } from './connection-fault.ts';
import type { ServerUrl } from './server-url.ts';

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** From the root of the API, with its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** "list the builds": for messages. */
  readonly doing: string;
  readonly signal: AbortSignal;
}

export interface HttpAnswer {
  readonly status: number;
  /** Lower-case name; undefined when absent or sent several times. */
  header(name: string): string | undefined;
  /** As sent, never decoded. Read it to its end or call `discard`. */
  readonly body: AsyncIterable<Buffer>;
  discard(): void;
}

export interface Connection extends AsyncDisposable {
  /** One request, one answer, redirects included. Throws `server.unreachable`, `server.invalid`. */
  send(request: HttpRequest): Promise<HttpAnswer>;
}

export interface TlsFiles {
  /** PEM, in place of the system's roots. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** A proxy that tunnels to the server. */
export interface ProxyChoice {
  readonly url: string;
  /** Hosts that are reached without it, as NO_PROXY writes them. */
  readonly except: string;
}

const CONNECT_MS = 10_000;
const HEADERS_MS = 60_000;
/** The service sends a heartbeat every 15 s on silent streams. */
const SILENCE_MS = 60_000;
const MAX_HEADER_BYTES = 32 * 1024;

/**
 * The way to the one server that the user named. It is not the guarded dialer of the service: a
 * client on the user's own machine may reach what the user may, private addresses included.
 */
export function openConnection(
  server: ServerUrl,
  { tls = {}, proxy }: { readonly tls?: TlsFiles; readonly proxy?: ProxyChoice | undefined } = {},
): Connection {
  const agent = openAgent(tls, proxy);
  return {
    async send(request) {
      const { method, path, headers, body, signal, doing } = request;
      const explain = (reason: unknown): BuilderdError =>
        connectionFault(reason, { doing, server, signal });
      try {
        const answer = await agent.request({
          origin: server.origin,
          path: `${server.basePath}${path}`,
          method,
          headers,
          signal,
          ...(body === undefined ? {} : { body }),
        });
        return {
          status: answer.statusCode,
          header: (name) => singleHeader(answer.headers[name]),
          body: explained(answer.body, explain),
          discard: () => {
            // Its fault has no reader any more.
            answer.body.on('error', () => answer.body.destroy());
            answer.body.destroy();
          },
        };
      } catch (reason) {
        throw explain(reason);
      }
    },
    [Symbol.asyncDispose]: () => agent.destroy(),
  };
}

function openAgent(tls: TlsFiles, proxy: ProxyChoice | undefined): Dispatcher {
  const connect = { timeout: CONNECT_MS, ...tls };
  const options = {
    connect,
    headersTimeout: HEADERS_MS,
    bodyTimeout: SILENCE_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
    pipelining: 1,
    allowH2: false,
  };
  if (proxy === undefined) return new Agent(options);
  // All three are given: what is not given it would read from the environment itself.
  const { url: httpsProxy, except: noProxy } = proxy;
  return new EnvHttpProxyAgent({
    ...options,
    httpProxy: '',
    httpsProxy,
    noProxy,
    // The certificate of the client and the authority are for the server; the proxy's is a public one.
    requestTls: connect,
    proxyTls: { timeout: CONNECT_MS },
  });
}

async function* explained(
  body: AsyncIterable<Buffer>,
  explain: (reason: unknown) => BuilderdError,
): AsyncGenerator<Buffer, void, void> {
  try {
    yield* body;
  } catch (reason) {
    throw explain(reason);
  }
}

function singleHeader(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
