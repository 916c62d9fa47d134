import pg from 'pg';
import { Kysely, sql } from 'kysely';
import { BuilderdError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { throwIfAborted } from '../core/scope.ts';
import type { Database } from './database.ts';
import { Doorbell } from './doorbell.ts';
import { createDatabase } from './kysely-database.ts';
import { checkMigrated, migrate } from './migrate.ts';
import type { OpenDatabaseOptions } from './open-options.ts';
import { PostgresBell } from './postgres-bell.ts';
import { postgresDialect } from './postgres-driver.ts';
import { tlsOptionsFor } from './postgres-tls.ts';
import { parsePostgresUrl, type PostgresTarget } from './postgres-url.ts';
import { readWarnings } from './postgres-warnings.ts';
import type { Schema } from './schema.ts';
import { TransactionScope } from './transaction-scope.ts';

/** The server's own limits come first, so that a slow statement costs no connection. */
const STATEMENT_TIMEOUT_MS = 15_000;
const LOCK_TIMEOUT_MS = 10_000;
const IDLE_IN_TRANSACTION_MS = 60_000;
const QUERY_TIMEOUT_MS = 20_000;
const MIGRATION_TIMEOUT_MS = 16 * 60_000;
/** PostgreSQL 13 is the oldest that is tested and still common. */
const MIN_SERVER_VERSION = 130_000;

const { INT8, NUMERIC } = pg.types.builtins;
type TypeId = Parameters<typeof pg.types.getTypeParser>[0];

export async function openPostgres(url: string, options: OpenDatabaseOptions): Promise<Database> {
  const { signal, log } = options;
  throwIfAborted(signal, 'open the database');
  const target = parsePostgresUrl(url);
  const config = clientConfig(target);
  if (options.migrate !== false) await migrateOnce(config, options);
  const scope = new TransactionScope();
  const bell = new Doorbell();
  const pool = openPool(
    {
      ...config,
      max: target.poolMax,
      min: Math.min(target.poolMin, target.poolMax),
      idleTimeoutMillis: target.maxIdleMs,
      maxLifetimeSeconds: Math.ceil(target.maxLifetimeMs / 1000),
    },
    log,
  );
  const postgresBell = new PostgresBell({ config, bell, pool, log });
  const database = createDatabase({
    dialectName: 'postgres',
    dialect: postgresDialect({ pool, scope, queryTimeoutMs: QUERY_TIMEOUT_MS }),
    scope,
    bell,
    callOthers: (topic) => postgresBell.call(topic),
    hearOthers: () => postgresBell.hear(),
    close: () => postgresBell[Symbol.asyncDispose](),
  });
  try {
    await checkMigrated(database.k, { dialect: 'postgres' });
    for (const { setting, current, limit, message } of await readWarnings(database, target)) {
      log.warn({ setting, ...(limit === undefined ? {} : { current, limit }) }, message);
    }
    return database;
  } catch (reason) {
    await database[Symbol.asyncDispose]();
    throw reason;
  }
}

/** One connection of its own, whose limits let it wait for another migrator. */
async function migrateOnce(
  config: pg.ClientConfig,
  { log, onMigrated }: OpenDatabaseOptions,
): Promise<void> {
  const pool = openPool({ ...config, max: 1 }, log);
  const scope = new TransactionScope();
  const k = new Kysely<Schema>({
    dialect: postgresDialect({ pool, scope, queryTimeoutMs: MIGRATION_TIMEOUT_MS }),
  });
  try {
    await checkServer(k);
    const applied = await migrate(k, { dialect: 'postgres' });
    if (applied.length > 0) log.info({ count: applied.length }, 'Migrated the database');
    onMigrated?.(applied);
  } finally {
    await k.destroy();
  }
}

function openPool(config: pg.PoolConfig, log: Log): pg.Pool {
  const pool = new pg.Pool(config);
  pool.on('error', (err) => log.warn({ err }, 'An idle database connection broke'));
  // Between two statements of a transaction nobody awaits the client; the next one will throw.
  pool.on('connect', (client) => {
    client.on('error', (err) => log.debug({ err }, 'A database connection broke'));
  });
  return pool;
}

function clientConfig(target: PostgresTarget): pg.ClientConfig {
  return {
    host: target.host,
    port: target.port,
    user: target.user,
    // A function: pg would look for an empty password in the environment and in files.
    password: () => target.password,
    database: target.database,
    ssl: tlsOptionsFor(target),
    application_name: target.applicationName,
    connectionTimeoutMillis: target.connectTimeoutMs,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    lock_timeout: LOCK_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types: { getTypeParser },
  };
}

/** Counts and sums as numbers, as SQLite gives them; what a number cannot hold is a fault. */
function getTypeParser(oid: TypeId, format?: 'text' | 'binary'): (text: string) => unknown {
  if (format !== 'binary' && oid === INT8) return parseWhole;
  if (format !== 'binary' && oid === NUMERIC) {
    return (text) => (/^-?\d+$/.test(text) ? parseWhole(text) : Number(text));
  }
  return pg.types.getTypeParser(oid, format);
}

function parseWhole(text: string): number {
  const number = Number(text);
  if (Number.isSafeInteger(number)) return number;
  throw new RangeError('Cannot read a whole number beyond 2^53 from the database');
}

/** Encodings and versions that our statements do not work on are found here, not in the middle. */
async function checkServer(k: Kysely<Schema>): Promise<void> {
  const { rows } = await sql<{ version: unknown; encoding: unknown }>`
    select current_setting('server_version_num')::int as version,
      current_setting('server_encoding') as encoding`.execute(k);
  const { version, encoding } = rows[0] ?? {};
  if (encoding !== 'UTF8') {
    throw new BuilderdError(
      'database.schema',
      `Cannot use the database: its encoding is ${String(encoding)}, want UTF8`,
    );
  }
  if (typeof version !== 'number' || version < MIN_SERVER_VERSION) {
    throw new BuilderdError(
      'database.schema',
      `Cannot use the database: PostgreSQL ${String(version)} is older than ${MIN_SERVER_VERSION}`,
    );
  }
}
