import pg from 'pg';
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
} from 'kysely';
import { BuilderdError } from '../core/errors.ts';
import { throwIfAborted } from '../core/scope.ts';
import { abortFault } from './abort-fault.ts';
import { breaksConnection, postgresFault } from './postgres-fault.ts';
import type { TransactionScope } from './transaction-scope.ts';

export interface PostgresDriverOptions {
  readonly pool: pg.Pool;
  readonly scope: TransactionScope;
  /** Beyond the server's own statement_timeout: the server, or the way to it, is gone. */
  readonly queryTimeoutMs: number;
}

export function postgresDialect(options: PostgresDriverOptions): Dialect {
  return {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new PostgresDriver(options),
    createIntrospector: (k) => new PostgresIntrospector(k),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  };
}

class PostgresDriver implements Driver {
  readonly #options: PostgresDriverOptions;
  readonly #held = new WeakMap<DatabaseConnection, PostgresConnection>();

  constructor(options: PostgresDriverOptions) {
    this.#options = options;
  }

  async init(): Promise<void> {
    await Promise.resolve();
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    const { pool, scope } = this.#options;
    scope.refuseInside('use the database');
    try {
      const client = await clientOf(pool, scope.signal);
      const connection = new PostgresConnection(client, this.#options);
      this.#held.set(connection, connection);
      return connection;
    } catch (reason) {
      throw postgresFault(reason, 'connect to PostgreSQL');
    }
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin isolation level read committed'));
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await this.#of(connection).commit();
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await this.#of(connection).rollback();
  }

  async releaseConnection(connection: DatabaseConnection): Promise<void> {
    await Promise.resolve(this.#of(connection).release());
  }

  async destroy(): Promise<void> {
    await this.#options.pool.end();
  }

  #of(connection: DatabaseConnection): PostgresConnection {
    const held = this.#held.get(connection);
    if (held === undefined) throw new TypeError('The connection is not one of this driver');
    return held;
  }
}

/** A client that comes after the signal goes back to the pool. */
async function clientOf(pool: pg.Pool, signal: AbortSignal | undefined): Promise<pg.PoolClient> {
  throwIfAborted(signal, 'use the database');
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(abortFault(signal, 'use the database'));
  signal?.addEventListener('abort', onAbort, { once: true });
  const connecting = pool.connect();
  try {
    return await Promise.race([connecting, aborted]);
  } catch (reason) {
    if (signal?.aborted === true) {
      // A fault of a connection that nobody waits for any more is nobody's.
      connecting.then((client) => client.release()).catch(() => undefined);
    }
    throw reason;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

/** One checked-out client. After a fault of the connection it answers nothing more and is destroyed. */
class PostgresConnection implements DatabaseConnection {
  readonly #client: pg.PoolClient;
  readonly #options: PostgresDriverOptions;
  #broken: BuilderdError | undefined;

  constructor(client: pg.PoolClient, options: PostgresDriverOptions) {
    this.#client = client;
    this.#options = options;
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const { signal } = this.#options.scope;
    throwIfAborted(signal, 'finish the transaction');
    const { rows, rowCount, command } = await this.#run(sql, parameters, signal);
    const isWrite = command === 'INSERT' || command === 'UPDATE' || command === 'DELETE';
    return {
      // Kysely names the type that its caller believes in; the caller parses.
      rows: rows as R[],
      ...(isWrite ? { numAffectedRows: BigInt(rowCount ?? 0) } : {}),
    };
  }

  // oxlint-disable-next-line require-yield
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    await Promise.resolve();
    throw new BuilderdError('internal', 'Cannot stream rows: read them in pages');
  }

  async commit(): Promise<void> {
    let command: string;
    try {
      ({ command } = await this.#run('commit', []));
    } catch (reason) {
      // It may have arrived. Nothing here may try again: the caller reads what there is now.
      if (this.#broken === undefined) throw reason;
      throw new BuilderdError(
        'database.unavailable',
        'Cannot tell whether the transaction was committed: the connection broke meanwhile',
        { cause: reason, details: { outcome: 'unknown' } },
      );
    }
    // PostgreSQL answers so when a statement's fault was swallowed inside the transaction.
    if (command === 'ROLLBACK') {
      throw new BuilderdError(
        'internal',
        'Cannot commit to the database: a statement of the transaction had failed',
      );
    }
  }

  /** Never a second fault: a connection that cannot roll back is closed, which does the same. */
  async rollback(): Promise<void> {
    if (this.#broken !== undefined) return;
    try {
      await this.#run('rollback', []);
    } catch (reason) {
      this.#broken ??= postgresFault(reason, 'roll back a transaction');
    }
  }

  release(): void {
    this.#client.release(this.#broken !== undefined);
  }

  async #run(
    text: string,
    values: readonly unknown[],
    signal?: AbortSignal,
  ): Promise<pg.QueryResult<Record<string, unknown>>> {
    if (this.#broken !== undefined) throw this.#broken;
    const { promise: gaveUp, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const seconds = this.#options.queryTimeoutMs / 1000;
      reject(
        new BuilderdError(
          'database.unavailable',
          `Cannot use the database: PostgreSQL did not answer for ${seconds} s`,
        ),
      );
    }, this.#options.queryTimeoutMs);
    const onAbort = (): void => reject(abortFault(signal, 'finish the transaction'));
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      const answer = this.#client.query<Record<string, unknown>>(text, [...values]);
      return await Promise.race([answer, gaveUp]);
    } catch (reason) {
      const fault = postgresFault(reason, 'use the database');
      // A client that still waits for an answer must not go back to the pool.
      if (breaksConnection(reason)) this.#broken = fault;
      throw fault;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }
}
