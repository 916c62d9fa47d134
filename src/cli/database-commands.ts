import { BuilderdError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import { formatDuration } from '../core/units.ts';
import type { Database, DatabaseConfig } from '../store/database.ts';
import { databaseFile } from '../store/data-directory.ts';
import { MIGRATIONS } from '../store/migrations/all-migrations.ts';
import { openDatabase } from '../store/open-database.ts';
import { parsePostgresUrl } from '../store/postgres-url.ts';
import { connectionsOfOneHost, readPostgresFacts, warningsOf } from '../store/postgres-warnings.ts';
import { checkFile, validateSchema } from '../store/shape/validate-schema.ts';
import { loadConfig } from './config.ts';
import { databaseConfig } from './database-config.ts';
import type { Io } from './io.ts';
import { oneLine } from './print-fault.ts';

export interface DatabaseOptions {
  readonly config?: string;
}

/** What is opened is said in lines of ours; the service's log is not running. */
const NO_LOG: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => NO_LOG,
};

const LATEST = MIGRATIONS.at(-1)?.name ?? 'none';

/** `builderd migrate`: brings the tables to this version. Repeating is a no-op. */
export async function runMigrate({ config: file }: DatabaseOptions, io: Io): Promise<void> {
  const config = databaseConfig(loadConfig(file));
  let applied: readonly string[] = [];
  await using database = await openDatabase(config, {
    signal: io.signal,
    log: NO_LOG,
    onMigrated: (names) => (applied = names),
  });
  await database.ping({ signal: io.signal });
  for (const name of applied) say(io, `Applied ${name}`);
  say(
    io,
    applied.length === 0
      ? `Nothing to do: ${placeOf(config)} is at ${LATEST}`
      : `Migrated ${placeOf(config)} to ${LATEST}`,
  );
}

/** `builderd validate-db`: whether the tables are those of this version, and the file is sound. */
export async function runValidateDatabase(
  { config: file }: DatabaseOptions,
  io: Io,
): Promise<void> {
  const config = databaseConfig(loadConfig(file));
  await using database = await openWithoutMigrating(config, io);
  const differences = await validateSchema(database);
  const damages = await checkFile(database);
  for (const line of [...differences, ...damages]) say(io, `fault: ${line}`);
  if (damages.length > 0) {
    throw new BuilderdError(
      'storage.failed',
      `Cannot trust ${placeOf(config)}: it is damaged in ${damages.length} places; restore a backup`,
    );
  }
  if (differences.length > 0) {
    throw new BuilderdError(
      'database.schema',
      `Cannot use ${placeOf(config)}: it differs from ${LATEST} in ${differences.length} places`,
    );
  }
  say(io, `Valid: ${placeOf(config)} is at ${LATEST}`);
}

/** `builderd --test-database`: reaches it, reads, writes, and warns of what should not stay so. */
export async function runTestDatabase({ config: file }: DatabaseOptions, io: Io): Promise<void> {
  const config = databaseConfig(loadConfig(file));
  say(io, `Testing ${placeOf(config)}`);
  const started = performance.now();
  await using database = await openWithoutMigrating(config, io);
  say(io, `Connected in ${formatDuration(Math.round(performance.now() - started))}`);
  if (config.type === 'postgres') await testPostgres(database, config.url, io);
  await writeAndUndo(database, io);
  say(io, 'Wrote and undid a transaction');
  say(io, `The database works, at ${LATEST}`);
}

async function testPostgres(database: Database, url: string, io: Io): Promise<void> {
  const target = parsePostgresUrl(url);
  const facts = await readPostgresFacts(database);
  say(io, `PostgreSQL ${facts.version}, ${facts.tls ?? 'no TLS'} (sslmode=${target.sslMode})`);
  const usable = facts.maxConnections - facts.reservedConnections;
  const hosts = Math.floor(usable / connectionsOfOneHost(target));
  say(
    io,
    `Connections: ${usable} allowed, at most ${connectionsOfOneHost(target)} for each host: enough for ${hosts} hosts`,
  );
  for (const { message } of warningsOf(target, facts)) say(io, `warning: ${message}`);
  if (facts.isReadOnly) {
    throw new BuilderdError(
      'database.unavailable',
      'Cannot write to the database: the server is read-only',
    );
  }
}

/** A write that nobody sees: the transaction is given up. */
async function writeAndUndo(database: Database, io: Io): Promise<void> {
  const undo = new Error('undone on purpose');
  try {
    await database.transaction(
      async (tx) => {
        await tx.k.insertInto('meta').values({ key: 'test', value: '' }).execute();
        throw undo;
      },
      { signal: io.signal },
    );
  } catch (reason) {
    if (reason !== undo) throw reason;
  }
}

async function openWithoutMigrating(config: DatabaseConfig, io: Io): Promise<Database> {
  return await openDatabase(config, { signal: io.signal, log: NO_LOG, migrate: false });
}

/** For people; without the password. */
function placeOf(config: DatabaseConfig): string {
  if (config.type === 'sqlite') return `SQLite ${databaseFile(config.directory)}`;
  const { host, port, database, user } = parsePostgresUrl(config.url);
  return `PostgreSQL ${host}:${port}, database ${database}, user ${user}`;
}

function say(io: Io, line: string): void {
  io.stdout.write(`${oneLine(line)}\n`);
}
