import { BuilderdError } from '../../core/errors.ts';

/** Ids in one range: what a user namespace of a build needs. */
export const IDS_PER_BUILD = 65_536;
/**
 * Above what useradd, systemd and container managers give out (systemd's "Users, Groups, UIDs and
 * GIDs": 524288 to 1879048191 are containers'), below 2^31, where some programs count signed.
 */
export const FIRST_ID_BASE = 0x7000_0000;
const LAST_ID_BASE = 0x7fff_0000;

/** Within a range, near its end, where no image has users: steps of a build must not meet them. */
const WORKER_OFFSET = 65_530;
const INIT_OFFSET = 65_529;

export interface WorkerIds {
  /** User and group id of the process that converts. */
  readonly worker: number;
  /** Of the process that waits for it; another one, so that the worker cannot touch it. */
  readonly init: number;
}

/** Throws `internal` for a range that could hold an account of the host. */
export function workerIds(base: number): WorkerIds {
  const valid = Number.isSafeInteger(base) && base % IDS_PER_BUILD === 0;
  if (!valid || base < IDS_PER_BUILD || base > 0xfffe_0000) {
    throw new BuilderdError(
      'internal',
      `Cannot start a worker with ids from ${base}: want a multiple of ${IDS_PER_BUILD} from ${IDS_PER_BUILD} on`,
    );
  }
  return { worker: base + WORKER_OFFSET, init: base + INIT_OFFSET };
}

/** Hands out ranges that no other conversion of this process holds. */
export class IdRanges {
  readonly #taken = new Set<number>();

  take(): { readonly base: number } & Disposable {
    for (let base = FIRST_ID_BASE; base <= LAST_ID_BASE; base += IDS_PER_BUILD) {
      if (this.#taken.has(base)) continue;
      this.#taken.add(base);
      return { base, [Symbol.dispose]: () => void this.#taken.delete(base) };
    }
    throw new BuilderdError(
      'service.unavailable',
      'Cannot start a worker: no range of ids is free',
    );
  }
}
