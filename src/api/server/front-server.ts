import type { EventEmitter } from 'node:events';
import {
  createServer as createHttp1,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import {
  createServer as createHttp2,
  constants,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { createServer as createHttps } from 'node:https';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { ApiLimits } from '../api-limits.ts';
import { answerOn } from './parser-faults.ts';
import { protocolOf } from './preface.ts';
import { capByNetwork } from './socket-share.ts';
import { type TlsSettings, tlsContextOptions } from './tls-settings.ts';

export type RequestListener = (request: IncomingMessage, response: ServerResponse) => void;

export interface FrontServerOptions {
  readonly limits: ApiLimits;
  /** TLS only when given, cleartext only when not. */
  readonly tls?: TlsSettings;
  /** Addresses that carry many clients' connections: load balancers. */
  readonly isProxy: (address: string) => boolean;
}

export interface FrontServer {
  /** Listens for all protocols; Fastify takes it for a plain HTTP/1.1 server. */
  readonly server: Server;
  /** New connections get the new certificate; throws and keeps the old one when it does not fit. */
  reloadTls(tls: TlsSettings): void;
  /** Asks clients to go: GOAWAY on HTTP/2, and idle connections are closed. */
  goAway(): void;
  /** Cuts every connection. */
  destroy(): void;
}

/**
 * HTTP/1.1 and HTTP/2 on one port. In cleartext the first bytes tell them apart (prior knowledge;
 * the upgrade of RFC 7540 is not offered), under TLS the ALPN choice does. Both keep to the same
 * limits, and the caps on sockets count before a protocol is known.
 */
export function createFrontServer(
  listener: RequestListener,
  { limits, tls, isProxy }: FrontServerOptions,
): FrontServer {
  const http1 = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout: Math.min(limits.headersMs, limits.requestMs),
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.idleMs,
    connectionsCheckingInterval: Math.min(1000, limits.headersMs),
    requireHostHeader: true,
    insecureHTTPParser: false,
    noDelay: true,
    // A follower whose host went away says nothing, and is owed nothing: only TCP notices.
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
  } as const;
  const secure =
    tls === undefined
      ? undefined
      : createHttps(
          {
            ...http1,
            ...tlsContextOptions(tls),
            ALPNProtocols: ['h2', 'http/1.1'],
            handshakeTimeout: limits.headersMs,
            ...(tls.clientCa === undefined ? {} : { requestCert: true, rejectUnauthorized: true }),
          },
          listener,
        );
  const server: Server = secure ?? createHttp1(http1, listener);
  server.setTimeout(limits.stalledMs, (socket: Socket) => {
    // Nothing to read for the client yet: a log that is followed may be silent for long.
    if (answerOn(socket) !== undefined && socket.writableLength === 0) {
      socket.setTimeout(limits.stalledMs);
    } else {
      socket.destroy();
    }
  });
  server.maxHeadersCount = limits.headerFields;
  server.maxConnections = limits.sockets;

  const sessions = new Set<ServerHttp2Session>();
  const http2 = createSessions(listener, limits, sessions);
  const waiting = new Set<Socket>();

  const admitted = capByNetwork(limits.socketsPerAddress, isProxy);
  if (secure === undefined) {
    const serveHttp1 = takeListener(server, 'connection');
    server.on('connection', (socket: Socket) => {
      if (!admitted(socket)) return;
      peek(socket, { waitMs: limits.headersMs, waiting }, (protocol) => {
        if (protocol === 'h2') http2.emit('connection', socket);
        else serveHttp1(socket);
      });
    });
  } else {
    const startTls = takeListener(server, 'connection');
    server.on('connection', (socket: Socket) => {
      if (admitted(socket)) startTls(socket);
    });
    const serveHttp1 = takeListener(server, 'secureConnection');
    server.on('secureConnection', (socket: Socket) => {
      const isHttp2 = socket instanceof TLSSocket && socket.alpnProtocol === 'h2';
      if (isHttp2) http2.emit('connection', socket);
      else serveHttp1(socket);
    });
  }

  return {
    server,
    reloadTls(next) {
      if (secure !== undefined) secure.setSecureContext(tlsContextOptions(next));
    },
    goAway() {
      for (const session of sessions) session.close();
      for (const socket of waiting) socket.destroy();
      server.closeIdleConnections();
    },
    destroy() {
      for (const session of sessions) session.destroy();
      for (const socket of waiting) socket.destroy();
      server.closeAllConnections();
    },
  };
}

/** The HTTP/2 side: a server that never listens and is handed its sockets. */
function createSessions(
  listener: RequestListener,
  limits: ApiLimits,
  sessions: Set<ServerHttp2Session>,
): ReturnType<typeof createHttp2> {
  const http2 = createHttp2({
    settings: {
      maxConcurrentStreams: limits.streamsPerSession,
      maxHeaderListSize: limits.headerBytes,
      enablePush: false,
    },
    maxHeaderListPairs: limits.headerFields,
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
    streamResetBurst: limits.resetBurst,
    streamResetRate: limits.resetsPerSecond,
    unknownProtocolTimeout: limits.headersMs,
  });
  // The compatibility objects of HTTP/2 are what Fastify expects of HTTP/1.1's.
  const emitter: EventEmitter = http2;
  emitter.on('request', listener);
  http2.on('session', (session: ServerHttp2Session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
    endWhenIdle(session, limits);
  });
  // A peer that breaks the protocol ends its own session; its streams report to their requests.
  http2.on('sessionError', (_fault: Error, session: ServerHttp2Session) => session.destroy());
  return http2;
}

/**
 * Ends a session that had no stream for the idle time, whatever frames it sends meanwhile: as on
 * HTTP/1.1, only requests keep a connection. One with streams is asked now and then if it is there.
 */
function endWhenIdle(session: ServerHttp2Session, limits: ApiLimits): void {
  let open = 0;
  let idle: NodeJS.Timeout | undefined;
  const startIdle = (): void => {
    if (!session.destroyed) idle = setTimeout(() => session.close(), limits.idleMs).unref();
  };
  startIdle();
  session.on('stream', (stream: ServerHttp2Stream) => {
    clearTimeout(idle);
    open += 1;
    stream.once('close', () => {
      open -= 1;
      if (open === 0) startIdle();
    });
    closeWhenStalled(stream, limits.stalledMs);
  });
  session.once('close', () => clearTimeout(idle));
  session.setTimeout(limits.idleMs, () => {
    if (session.destroyed) return;
    session.ping(() => undefined);
    session.setTimeout(limits.idleMs);
  });
}

/** Cuts a stream whose bytes are not taken; one that waits for something to send may stay. */
function closeWhenStalled(stream: ServerHttp2Stream, stalledMs: number): void {
  stream.setTimeout(stalledMs, () => {
    const isWaiting = stream.headersSent && stream.writableLength === 0;
    if (isWaiting || stream.destroyed) closeWhenStalled(stream, stalledMs);
    else stream.close(constants.NGHTTP2_CANCEL);
  });
}

/** Node's own listener, to be called when we have chosen; ours takes its place. */
function takeListener(server: Server, event: string): (socket: Socket) => void {
  const own = server.listeners(event);
  server.removeAllListeners(event);
  return (socket) => {
    for (const listener of own) listener.call(server, socket);
  };
}

function peek(
  socket: Socket,
  { waitMs, waiting }: { readonly waitMs: number; readonly waiting: Set<Socket> },
  serve: (protocol: 'h1' | 'h2') => void,
): void {
  let head: Buffer = Buffer.alloc(0);
  const giveUp = (): void => {
    socket.destroy();
  };
  const timer = setTimeout(giveUp, waitMs);
  const leave = (): void => {
    clearTimeout(timer);
    waiting.delete(socket);
    socket.off('readable', look);
    socket.off('error', giveUp);
    socket.off('end', giveUp);
    socket.off('close', leave);
  };
  const look = (): void => {
    const chunk: unknown = socket.read();
    if (!Buffer.isBuffer(chunk)) return;
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
    const protocol = protocolOf(head);
    if (protocol === undefined) return;
    leave();
    socket.unshift(head);
    serve(protocol);
  };
  waiting.add(socket);
  socket.on('readable', look);
  socket.on('error', giveUp);
  socket.on('end', giveUp);
  socket.on('close', leave);
}
