import type { Kysely } from 'kysely';
import type { DialectName } from '../dialect-name.ts';

/** What a migration may know beside the connection. */
export interface MigrationContext {
  readonly dialect: DialectName;
}

/** Runs once, inside one transaction. Never edited after a release: add another one. */
export interface Migration {
  readonly name: string;
  readonly up: (db: Kysely<unknown>, context: MigrationContext) => Promise<void>;
}
