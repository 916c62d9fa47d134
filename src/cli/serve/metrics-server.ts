import { once } from 'node:events';
import { createServer } from 'node:http';
import { BuilderdError, errnoOf, messageOf } from '../../core/errors.ts';
import { EXPOSITION_TYPE } from '../../builds/metrics/merge-expositions.ts';

export interface MetricsServerOptions {
  readonly host: string;
  readonly port: number;
  readonly render: () => Promise<string>;
  readonly onFault: (reason: unknown) => void;
}

const MAX_CONNECTIONS = 32;

/** Prometheus's port: `/metrics`, and `/health` for whoever watches this port. Plain HTTP/1.1. */
export async function serveMetrics(
  options: MetricsServerOptions,
): Promise<AsyncDisposable & { readonly port: number }> {
  const { host, port } = options;
  const server = createServer(
    { maxHeaderSize: 8192, requestTimeout: 10_000, headersTimeout: 5000 },
    (incoming, answer) => {
      answer.setHeader('cache-control', 'no-store');
      answer.setHeader('x-content-type-options', 'nosniff');
      const url = incoming.url?.split('?', 1)[0];
      if (incoming.method !== 'GET' && incoming.method !== 'HEAD') {
        answer.writeHead(405, { allow: 'GET, HEAD' }).end();
        return;
      }
      if (url === '/health') {
        answer.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' }).end('ok\n');
        return;
      }
      if (url !== '/metrics') {
        answer
          .writeHead(404, { 'content-type': 'text/plain; charset=utf-8' })
          .end('There is /metrics here.\n');
        return;
      }
      options.render().then(
        (text) => void answer.writeHead(200, { 'content-type': EXPOSITION_TYPE }).end(text),
        (reason: unknown) => {
          options.onFault(reason);
          answer.writeHead(500).end();
        },
      );
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.listen({ host, port });
  try {
    await once(server, 'listening');
  } catch (reason) {
    throw new BuilderdError(
      errnoOf(reason) === 'EADDRINUSE' ? 'service.unavailable' : 'config.invalid',
      `Cannot serve metrics on ${host}:${port} (UNKEY_BUILDERD_METRICS_HOST, UNKEY_BUILDERD_METRICS_PORT): ${messageOf(reason)}`,
      { cause: reason },
    );
  }
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
