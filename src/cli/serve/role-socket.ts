import { chmod, chown, rm } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
import { once } from 'node:events';
import path from 'node:path';
import { BuilderdError } from '../../core/errors.ts';
import type { RoleName } from './role-protocol.ts';

/** What a role shows to the other one on its host. No orders, no secrets: facts to read. */
export interface RoleFacts {
  /** Names this start of the process. */
  readonly process: string;
  /** The metric families as JSON. */
  metrics(): Promise<string>;
  /** Facts for `/debug/status` as JSON. */
  status(signal: AbortSignal): Promise<string>;
}

const MODE = 0o660;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const STATUS_LIMIT_MS = 5000;

export function roleSocket(runDirectory: string, role: RoleName): string {
  return path.join(runDirectory, `${role}.sock`);
}

/** Serves the facts on a socket that only root and the service group can open. */
export async function serveRoleFacts(
  file: string,
  facts: RoleFacts,
  options: { readonly gid?: number },
): Promise<AsyncDisposable> {
  const server = createServer({ maxHeaderSize: 4096, requestTimeout: 5000 }, (incoming, answer) => {
    const reply = async (): Promise<void> => {
      const signal = AbortSignal.timeout(STATUS_LIMIT_MS);
      const body =
        incoming.url === '/metrics'
          ? await facts.metrics()
          : incoming.url === '/status'
            ? await facts.status(signal)
            : undefined;
      answer.statusCode = body === undefined ? 404 : 200;
      answer.setHeader('x-process', facts.process);
      answer.end(body ?? '');
    };
    reply().catch(() => {
      answer.statusCode = 500;
      answer.end();
    });
  });
  server.maxConnections = 16;
  // A socket that a killed predecessor left refuses connections and the bind alike.
  await rm(file, { force: true });
  server.listen(file);
  await once(server, 'listening');
  if (options.gid !== undefined) await chown(file, 0, options.gid);
  await chmod(file, MODE);
  return {
    [Symbol.asyncDispose]: async () => {
      await closeServer(server);
      await rm(file, { force: true });
    },
  };
}

async function closeServer(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

export interface FactsAnswer {
  readonly process: string;
  readonly body: string;
}

/** Asks the other role. Throws `service.unavailable` when it does not answer in time. */
export async function askRole(
  file: string,
  what: '/metrics' | '/status',
  { signal }: { readonly signal: AbortSignal },
): Promise<FactsAnswer> {
  return await new Promise((resolve, reject) => {
    const fail = (reason: unknown): void =>
      reject(
        new BuilderdError(
          'service.unavailable',
          'Cannot read the facts of the other role: it does not answer',
          {
            cause: reason,
          },
        ),
      );
    const asked = request({ socketPath: file, path: what, signal, agent: false }, (answer) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) answer.destroy(new Error('too large'));
        else chunks.push(chunk);
      });
      answer.on('error', fail);
      answer.on('end', () => {
        const name = answer.headers['x-process'];
        if (answer.statusCode !== 200 || typeof name !== 'string') fail(undefined);
        else resolve({ process: name, body: Buffer.concat(chunks).toString('utf8') });
      });
    });
    asked.on('error', fail);
    asked.end();
  });
}
