import { AsyncLocalStorage } from 'node:async_hooks';
import { BuilderdError } from '../core/errors.ts';
import type { DoorbellTopic } from './database.ts';

/** One run of a transaction's body. */
export interface TransactionRun {
  readonly signal: AbortSignal;
  /** Rung when the transaction is through, never before: a listener must find what it is told of. */
  readonly rings: Set<DoorbellTopic>;
  active: boolean;
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
    return run?.active === true ? run : undefined;
  }

  refuseInside(doing: string): void {
    if (this.current === undefined) return;
    throw new BuilderdError(
      'internal',
      `Cannot ${doing} inside a transaction: its body must use the connection that it is given`,
    );
  }

  async within<T>(run: TransactionRun, body: () => Promise<T>): Promise<T> {
    try {
      return await this.#runs.run(run, body);
    } finally {
      run.active = false;
    }
  }

  /** For callbacks that outlive the place that registered them. */
  outside<T>(work: () => T): T {
    return this.#runs.exit(work);
  }
}
