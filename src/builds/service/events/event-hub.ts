import type { TenantId } from '../../../core/ids.ts';
import type { Database } from '../../../store/database.ts';
import { readLastSeqs } from '../../../store/events/read-last-seqs.ts';

/** The newest numbers of one tenant, as far as this process knows. */
export interface TenantBell extends Disposable {
  /**
   * Resolves with the tenant's last number once it is beyond `after`, or with `after` when the
   * signal is aborted. Throws when the database cannot be asked.
   */
  beyond(after: number, signal: AbortSignal): Promise<number>;
}

interface Watched {
  readonly waiting: Set<Waiter>;
  followers: number;
  lastSeq: number;
}

interface Waiter {
  readonly after: number;
  readonly resolve: (seq: number) => void;
  readonly reject: (reason: unknown) => void;
}

const POLL_MS = 1000;

/**
 * Asks once for all followers of a process: a ring, which any commit may be, costs one short query,
 * however many follow. Listens only while somebody does.
 */
export class EventHub {
  readonly #database: Database;
  readonly #tenants = new Map<TenantId, Watched>();
  #bell: Disposable | undefined;
  #isLooking = false;
  #hasRung = false;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Listens from now on: what is committed after this call will be told. */
  follow(tenantId: TenantId): TenantBell {
    const watched = this.#tenants.get(tenantId) ?? { waiting: new Set(), followers: 0, lastSeq: 0 };
    this.#tenants.set(tenantId, watched);
    watched.followers += 1;
    this.#bell ??= this.#database.listen('events', () => this.#ring(), { pollMs: POLL_MS });
    return {
      beyond: (after, signal) => this.#wait(watched, after, signal),
      [Symbol.dispose]: () => {
        watched.followers -= 1;
        if (watched.followers === 0) this.#tenants.delete(tenantId);
        if (this.#tenants.size > 0) return;
        this.#bell?.[Symbol.dispose]();
        this.#bell = undefined;
      },
    };
  }

  async #wait(watched: Watched, after: number, signal: AbortSignal): Promise<number> {
    if (signal.aborted) return after;
    if (watched.lastSeq > after) return watched.lastSeq;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const waiter: Waiter = { after, resolve, reject };
    const onAbort = (): void => resolve(after);
    watched.waiting.add(waiter);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
      watched.waiting.delete(waiter);
    }
  }

  #ring(): void {
    this.#hasRung = true;
    if (this.#isLooking) return;
    this.#isLooking = true;
    // Settles always: faults go to those who wait.
    void this.#look();
  }

  async #look(): Promise<void> {
    while (this.#hasRung) {
      this.#hasRung = false;
      const asked = [...this.#tenants.keys()];
      try {
        for (const [tenantId, seq] of await readLastSeqs(this.#database, asked)) {
          this.#tell(tenantId, seq);
        }
      } catch (reason) {
        for (const tenantId of asked) {
          for (const { reject } of this.#tenants.get(tenantId)?.waiting ?? []) reject(reason);
        }
      }
    }
    this.#isLooking = false;
  }

  #tell(tenantId: TenantId, seq: number): void {
    const watched = this.#tenants.get(tenantId);
    if (watched === undefined) return;
    watched.lastSeq = Math.max(watched.lastSeq, seq);
    for (const waiter of watched.waiting) {
      if (watched.lastSeq > waiter.after) waiter.resolve(watched.lastSeq);
    }
  }
}
