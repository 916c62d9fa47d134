import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { BuilderdError, errnoOf } from '../../core/errors.ts';
import { FIRST_ID_BASE, IDS_PER_BUILD } from './id-ranges.ts';

/** Ranges of one service: more than a host converts at once, with room for some that linger. */
export const RANGES_PER_POOL = 256;
export const IDS_PER_POOL = RANGES_PER_POOL * IDS_PER_BUILD;
const POOLS = 16;

/** Ids that no other service of this host gives to its workers, until disposal or death. */
export interface IdPool extends AsyncDisposable {
  readonly first: number;
}

/**
 * Takes a pool: the one from `first` on, or any that is free. Whoever has it listens on an abstract
 * socket of its name (unix(7)): the kernel lets one process do so, and frees the name with it.
 * Throws `config.invalid` while another process has it.
 */
export async function claimIdPool(first: number | undefined): Promise<IdPool> {
  if (first !== undefined) {
    const claimed = await claim(first);
    if (claimed !== undefined) return claimed;
    throw new BuilderdError(
      'config.invalid',
      `Cannot give workers the ids from ${first} on: another service of this host does; give each its own UNKEY_BUILDERD_WORKER_ID_BASE, ${IDS_PER_POOL} apart, or none`,
    );
  }
  for (let i = 0; i < POOLS; i++) {
    const claimed = await claim(FIRST_ID_BASE + i * IDS_PER_POOL);
    if (claimed !== undefined) return claimed;
  }
  throw new BuilderdError(
    'config.invalid',
    `Cannot find ids for workers: ${POOLS} services of this host have them all; name others in UNKEY_BUILDERD_WORKER_ID_BASE`,
  );
}

/** Undefined when another process has it. */
async function claim(first: number): Promise<IdPool | undefined> {
  const server = createServer((socket) => socket.destroy());
  // It is held, not served: it must not keep the process alive.
  server.unref();
  try {
    server.listen({ path: `\0builderd-worker-ids-${first}` });
    await once(server, 'listening');
  } catch (reason) {
    if (errnoOf(reason) === 'EADDRINUSE') return undefined;
    throw reason;
  }
  // Out of descriptors for somebody who connects: nothing is lost.
  server.on('error', () => undefined);
  return { first, [Symbol.asyncDispose]: () => close(server) };
}

async function close(server: Server): Promise<void> {
  server.close();
  await once(server, 'close');
}
