import { BuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { livingProcesses, type LivingProcess } from './living-processes.ts';

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
const LOOK_AGAIN_MS = 1000;

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

export interface IdRange extends Disposable {
  readonly base: number;
  /**
   * Disposal does not give the range back before no process has one of its ids any more, nor the
   * one process that has not changed its id yet.
   */
  withhold(initPid: number | undefined): void;
}

export interface IdRangesOptions {
  readonly first?: number;
  readonly count?: number;
  readonly log?: Log;
  /** Asked for what lives on this host. */
  readonly processes?: () => Promise<readonly LivingProcess[]>;
}

/**
 * Hands out ranges that no other conversion of this process holds. A killed worker that the kernel
 * cannot end yet (it waits for a disk that does not answer) keeps its range: another tenant's
 * worker with the same ids could be its victim.
 */
export class IdRanges {
  readonly #first: number;
  readonly #count: number;
  readonly #log: Log | undefined;
  readonly #processes: () => Promise<readonly LivingProcess[]>;
  readonly #taken = new Set<number>();
  /** Pids of processes that may not have their ids yet, by the range that waits for them. */
  readonly #withheld = new Map<number, number | undefined>();
  #timer: NodeJS.Timeout | undefined;

  constructor({ first = FIRST_ID_BASE, count, log, processes }: IdRangesOptions = {}) {
    this.#first = first;
    this.#count = count ?? (LAST_ID_BASE - first) / IDS_PER_BUILD + 1;
    this.#log = log;
    this.#processes = processes ?? livingProcesses;
  }

  take(): IdRange {
    for (let i = 0; i < this.#count; i++) {
      const base = this.#first + i * IDS_PER_BUILD;
      if (this.#taken.has(base)) continue;
      this.#taken.add(base);
      return {
        base,
        withhold: (initPid) => this.#withhold(base, initPid),
        [Symbol.dispose]: () => {
          if (!this.#withheld.has(base)) this.#taken.delete(base);
        },
      };
    }
    throw new BuilderdError(
      'service.unavailable',
      'Cannot start a worker: no range of ids is free',
    );
  }

  /** For a start: what an earlier process of ours left behind may still be ending. */
  async withholdUsed(): Promise<void> {
    for (const { uids } of await this.#processes()) {
      for (const uid of uids) {
        const base = uid - (uid % IDS_PER_BUILD);
        const at = (base - this.#first) / IDS_PER_BUILD;
        if (at < 0 || at >= this.#count || this.#taken.has(base)) continue;
        this.#taken.add(base);
        this.#withhold(base, undefined);
      }
    }
  }

  #withhold(base: number, initPid: number | undefined): void {
    this.#withheld.set(base, initPid);
    this.#log?.warn(
      {
        step: 'worker',
        count: this.#withheld.size,
        ...(initPid === undefined ? {} : { pid: initPid }),
      },
      `The ids from ${base} on stay out of use until the processes of an earlier worker have ended`,
    );
    this.#timer ??= setInterval(() => void this.#release(), LOOK_AGAIN_MS).unref();
  }

  async #release(): Promise<void> {
    let living: readonly LivingProcess[];
    try {
      living = await this.#processes();
    } catch (err) {
      this.#log?.warn({ err, step: 'worker' }, 'Cannot look for the processes of earlier workers');
      return;
    }
    for (const [base, initPid] of this.#withheld) {
      if (living.some((each) => belongsTo(each, base, initPid))) continue;
      this.#withheld.delete(base);
      this.#taken.delete(base);
      this.#log?.info({ step: 'worker' }, `The ids from ${base} on may be used again`);
    }
    if (this.#withheld.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

function belongsTo(
  { pid, name, uids }: LivingProcess,
  base: number,
  initPid: number | undefined,
): boolean {
  // Its number may be another's by now; the launcher gives its processes our name.
  if (pid === initPid && name === 'builderd') return true;
  return uids.some((uid) => uid >= base && uid < base + IDS_PER_BUILD);
}
