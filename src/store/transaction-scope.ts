import { AsyncLocalStorage } from 'node:async_hooks';
import { BuilderdError } from '../core/errors.ts';
import type { DoorbellTopic } from './database.ts';

/** One run of a transaction's body. */
export interface TransactionRun {
  readonly signal: AbortSignal;
  /** Rung when the transaction is through, never before: a listener must find what it is told of. */
  readonly rings: Set<DoorbellTopic>;
  /** `begun` while the body runs: only then is the database refused to it. */
  phase: 'beginning' | 'begun' | 'over';
}

/**
 * Knows, anywhere below a transaction's body, that it is in one. A query on the database itself in
 * there would wait for the connection that its own transaction holds: for ever on SQLite, and on
 * PostgreSQL as soon as the pool is used up. So it is refused, always.
 */
export class TransactionScope {
  readonly #runs = new AsyncLocalStorage<TransactionRun>();

  get current(): TransactionRun | undefined {
    const run = this.#runs.getStore();
    return run?.phase === 'begun' ? run : undefined;
  }

  /** Ends the wait for a connection and the statements, but never a commit. */
  get signal(): AbortSignal | undefined {
    const run = this.#runs.getStore();
    return run === undefined || run.phase === 'over' ? undefined : run.signal;
  }

  refuseInside(doing: string): void {
    if (this.current === undefined) return;
    throw new BuilderdError(
      'internal',
      `Cannot ${doing} inside a transaction: its body must use the connection that it is given`,
    );
  }

  async around<T>(run: TransactionRun, work: () => Promise<T>): Promise<T> {
    return await this.#runs.run(run, work);
  }

  async within<T>(run: TransactionRun, body: () => Promise<T>): Promise<T> {
    run.phase = 'begun';
    try {
      return await body();
    } finally {
      run.phase = 'over';
    }
  }

  /** For callbacks that outlive the place that registered them. */
  outside<T>(work: () => T): T {
    return this.#runs.exit(work);
  }
}
