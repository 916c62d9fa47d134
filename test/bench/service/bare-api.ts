import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import fastify from 'fastify';
import { newId } from '../../../src/core/ids.ts';
import { databaseFile } from '../../../src/store/data-directory.ts';
import type { DatabaseConfig } from '../../../src/store/database.ts';
import { answerCalls } from './answer-calls.ts';
import { poolOf } from './recorded-sql.ts';
import { fill, type Filling, learn, type Step } from './replay.ts';

/** The other side of the comparison: Fastify as it comes, and our SQL straight on the drivers. */
export interface BareApi {
  readonly config: DatabaseConfig;
  readonly create: readonly Step[];
  readonly get: readonly Step[];
  readonly tenants: Readonly<Record<string, string>>;
}

type Run = (steps: readonly Step[], filling: Filling) => Promise<readonly object[][]>;

answerCalls({
  async listen({ config, create, get, tenants }: BareApi): Promise<string> {
    const run = config.type === 'sqlite' ? onSqlite(config.directory) : onPostgres(config.url);
    const app = fastify({ logger: false });
    app.post('/v1/builds', async (request, reply) => {
      const tenant = tenants[String(request.headers['x-tenant-id'])] ?? '';
      const rows = await run(create, { build: newId(), tenant });
      return reply.code(202).send(
        rows
          .filter(({ length }) => length > 0)
          .at(-1)
          ?.at(0),
      );
    });
    app.get<{ Params: { id: string } }>('/v1/builds/:id', async (request) => {
      const tenant = tenants[String(request.headers['x-tenant-id'])] ?? '';
      const [[build] = [], ...parts] = await run(get, { build: request.params.id, tenant });
      return { ...build, parts };
    });
    return await app.listen({ host: '127.0.0.1', port: 0 });
  },
});

function onSqlite(directory: string): Run {
  const db = new DatabaseSync(databaseFile(directory), { timeout: 1000 });
  db.exec('pragma journal_mode = wal');
  db.exec('pragma synchronous = full');
  const prepared = new Map<string, { statement: StatementSync; reads: boolean }>();
  const prepare = (sql: string): { statement: StatementSync; reads: boolean } => {
    const known = prepared.get(sql);
    if (known !== undefined) return known;
    const statement = db.prepare(sql);
    const made = { statement, reads: statement.columns().length > 0 };
    prepared.set(sql, made);
    return made;
  };
  return async (steps, filling) => {
    const results = steps.map((step) => {
      if (step.kind !== 'statement') {
        db.exec(step.kind === 'begin' ? 'begin immediate' : 'commit');
        return [];
      }
      const { statement, reads } = prepare(step.sql);
      // Only what the store itself had bound before.
      const values = fill(step, filling) as SQLInputValue[];
      if (!reads) {
        statement.run(...values);
        return [];
      }
      const rows = statement.all(...values);
      learn(rows, filling);
      return rows;
    });
    return await Promise.resolve(results);
  };
}

function onPostgres(url: string): Run {
  const pool = poolOf(url);
  return async (steps, filling) => {
    const client = await pool.connect();
    try {
      const results: object[][] = [];
      for (const step of steps) {
        if (step.kind !== 'statement') {
          await client.query(step.kind);
          continue;
        }
        const { rows } = await client.query<object>(step.sql, fill(step, filling));
        learn(rows, filling);
        results.push(rows);
      }
      return results;
    } finally {
      client.release();
    }
  };
}
