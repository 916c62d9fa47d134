import type { QueryExecutorProvider } from 'kysely';
import type { DialectName } from '../dialect-name.ts';

/** What a migration may know beside the connection. */
export interface MigrationContext {
  readonly dialect: DialectName;
}

/** Runs once, inside one transaction, in plain SQL: it outlives the types of the tables. Never edited after a release: add another one. */
export interface Migration {
  readonly name: string;
  readonly up: (db: QueryExecutorProvider, context: MigrationContext) => Promise<void>;
}
