import { hostname } from 'node:os';
import { sql } from 'kysely';
import type { Db } from './database.ts';
import { isLocal, type PostgresTarget } from './postgres-url.ts';
import { readInteger, readOptionalText, readText } from './row-values.ts';

export interface PostgresFacts {
  /** As the server says it, such as `15.18 (Debian …)`. */
  readonly version: string;
  /** Such as `TLSv1.3`; undefined for a plain connection. */
  readonly tls: string | undefined;
  readonly maxConnections: number;
  /** Of them, kept for superusers. */
  readonly reservedConnections: number;
  readonly synchronousCommit: string;
  readonly isReadOnly: boolean;
}

export async function readPostgresFacts(db: Db): Promise<PostgresFacts> {
  const { rows } = await sql<Readonly<Record<string, unknown>>>`
    select current_setting('server_version') as version,
      (select version from pg_stat_ssl where pid = pg_backend_pid() and ssl) as tls,
      current_setting('max_connections')::int as max_connections,
      current_setting('superuser_reserved_connections')::int as reserved,
      current_setting('synchronous_commit') as synchronous_commit,
      current_setting('transaction_read_only') as read_only`.execute(db.k);
  const row = rows[0] ?? {};
  return {
    version: readText(row['version'], 'server_version'),
    tls: readOptionalText(row['tls'], 'pg_stat_ssl.version'),
    maxConnections: readInteger(row['max_connections'], 'max_connections'),
    reservedConnections: readInteger(row['reserved'], 'superuser_reserved_connections'),
    synchronousCommit: readText(row['synchronous_commit'], 'synchronous_commit'),
    isReadOnly: readText(row['read_only'], 'transaction_read_only') === 'on',
  };
}

/** Something that works and should not stay so. The message is a constant: it is a log line too. */
export interface DatabaseWarning {
  readonly setting: 'DATABASE_URL';
  readonly message: string;
  readonly current?: number;
  readonly limit?: number;
}

/** An api and an executor, each with its pool and a connection that hears rings. */
export function connectionsOfOneHost({ poolMax }: PostgresTarget): number {
  return 2 * (poolMax + 1);
}

export function warningsOf(
  target: PostgresTarget,
  facts: PostgresFacts,
  hosts = 1,
): readonly DatabaseWarning[] {
  const setting = 'DATABASE_URL';
  const warnings: DatabaseWarning[] = [];
  if (target.sslMode === 'require' && target.sslRootCert === undefined) {
    warnings.push({
      setting,
      message:
        'sslmode=require encrypts but does not check who answers; use verify-full with sslrootcert',
    });
  }
  if (target.sslMode === 'disable' && !isLocal(target)) {
    warnings.push({
      setting,
      message:
        'The connection to PostgreSQL is not encrypted; use sslmode=verify-full with sslrootcert',
    });
  }
  const limit = facts.maxConnections - facts.reservedConnections;
  const current = hosts * connectionsOfOneHost(target);
  if (current > limit) {
    const whose = hosts === 1 ? 'one host' : 'all hosts together';
    const message = `The pools of ${whose} may want more connections than PostgreSQL allows; lower pool_max_conns or raise max_connections`;
    warnings.push({ setting, message, current, limit });
  }
  if (facts.synchronousCommit === 'off') {
    warnings.push({
      setting,
      message:
        'synchronous_commit is off: a crash of PostgreSQL loses builds that were accepted; switch it on',
    });
  }
  return warnings;
}

/** For a database of our schema, which knows the other hosts. */
export async function readWarnings(
  db: Db,
  target: PostgresTarget,
): Promise<readonly DatabaseWarning[]> {
  return warningsOf(target, await readPostgresFacts(db), 1 + (await countOtherHosts(db)));
}

/** Those whose executors are there; nobody knows of a host that runs an api alone. */
async function countOtherHosts(db: Db): Promise<number> {
  const row = await db.k
    .selectFrom('executors')
    .select((eb) => eb.fn.count('host').distinct().as('hosts'))
    .where('host', '<>', hostname())
    .executeTakeFirst();
  return readInteger(row?.hosts, 'executors.host');
}
