import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { sql } from 'kysely';
import { runProgram } from '../../src/cli/program.ts';
import type { DatabaseConfig } from '../../src/store/database.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { signal } from '../fixtures/queue.ts';

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The program in this process, with the settings of one environment file. */
async function runWith(
  settings: Readonly<Record<string, string>>,
  args: readonly string[],
): Promise<Outcome> {
  const dir = await mkdtemp(join(tmpdir(), 'bd-cli-db-'));
  const file = join(dir, 'builderd.env');
  const lines = Object.entries(settings).map(
    ([name, value]) => `UNKEY_BUILDERD_${name}="${value}"\n`,
  );
  await writeFile(file, lines.join(''));
  const output = { stdout: '', stderr: '' };
  try {
    const code = await runProgram([...args, '--config', file], {
      stdout: { write: (text) => (output.stdout += text) },
      stderr: { write: (text) => (output.stderr += text) },
      signal,
      atExit: () => undefined,
    });
    return { code, ...output };
  } finally {
    await rm(dir, { recursive: true });
  }
}

function settingsFor(config: DatabaseConfig): Readonly<Record<string, string>> {
  return config.type === 'sqlite'
    ? { DATABASE_TYPE: 'sqlite', DATABASE_DATA_DIR: config.directory }
    : { DATABASE_TYPE: 'postgres', DATABASE_URL: config.url };
}

forEachDatabase((name, openTestDatabase) => {
  test(`builderd migrate makes the tables on ${name}, and the second time says so`, async () => {
    await using opened = await openTestDatabase({ empty: true });
    const settings = settingsFor(opened.config);
    const before = await runWith(settings, ['validate-db']);
    assert.deepEqual([before.code, before.stdout], [3, '']);
    assert.match(before.stderr, /(no tables|there is none) yet\nnext: Run `builderd migrate`/);
    const first = await runWith(settings, ['migrate']);
    assert.deepEqual([first.code, first.stderr], [0, '']);
    assert.match(first.stdout, /^Applied 0001-initial\nMigrated .* to \d{4}-\S+\n$/);
    const second = await runWith(settings, ['migrate']);
    assert.match(second.stdout, /^Nothing to do: .* is at \d{4}-\S+\n$/);
    const valid = await runWith(settings, ['validate-db']);
    assert.deepEqual([valid.code, valid.stderr], [0, '']);
    assert.match(valid.stdout, /^Valid: /);
  });

  test(`builderd validate-db on ${name} names what differs and ends with 3`, async () => {
    await using opened = await openTestDatabase();
    await sql`drop index builds_slot`.execute(opened.database.k);
    const { code, stdout, stderr } = await runWith(settingsFor(opened.config), ['validate-db']);
    assert.equal(code, 3);
    assert.equal(stdout, 'fault: index builds_slot is missing\n');
    assert.match(stderr, /differs from \d{4}-\S+ in 1 places/);
  });

  test(`builderd --test-database on ${name} reaches it and leaves no trace`, async () => {
    await using opened = await openTestDatabase();
    const before = await opened.database.k.selectFrom('meta').selectAll().execute();
    const { code, stdout, stderr } = await runWith(settingsFor(opened.config), ['--test-database']);
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(
      stdout,
      /^Testing (SQLite|PostgreSQL) [^]*Connected in [^]*\nThe database works, at/,
    );
    assert.deepEqual(await opened.database.k.selectFrom('meta').selectAll().execute(), before);
    if (opened.config.type === 'postgres') {
      const { password } = new URL(opened.config.url);
      assert.ok(!stdout.includes(password));
      assert.match(stdout, /\nPostgreSQL \d+\.\d+.*, no TLS \(sslmode=disable\)\n/);
      assert.match(
        stdout,
        /\nConnections: 57 allowed, at most 10 for each host: enough for 5 hosts\n/,
      );
    }
  });

  test(`the database commands on ${name} say in one sentence why it cannot be reached`, async () => {
    await using opened = await openTestDatabase();
    const { config } = opened;
    const secret = 'hunter2-secret';
    const cases: (readonly [Readonly<Record<string, string>>, number, RegExp])[] =
      config.type === 'sqlite'
        ? [[{ DATABASE_DATA_DIR: '/proc/none/data' }, 3, /Cannot use the data directory/]]
        : [
            [{ DATABASE_URL: `postgres://u:${secret}@127.0.0.1:1/x` }, 3, /ECONNREFUSED/],
            [
              { DATABASE_URL: wrongPassword(config.url, secret) },
              3,
              /refuses the user or the password/,
            ],
            [{ DATABASE_URL: otherDatabase(config.url) }, 3, /there is no database of that name/],
            [
              { DATABASE_URL: `postgres://u:${secret}@h/x?sslmode=prefer` },
              2,
              /sslmode is "prefer"/,
            ],
            [{ DATABASE_URL: `mysql://u:${secret}@h/x` }, 2, /want postgres:/],
            [{ DATABASE_URL: secret }, 2, /want postgres:/],
          ];
    for (const [settings, code, text] of cases) {
      const all = { DATABASE_TYPE: name, ...settings };
      for (const args of [['--test-database'], ['migrate'], ['validate-db']]) {
        const found = await runWith(all, args);
        assert.match(found.stderr, text, args.join());
        assert.equal(found.code, code, found.stderr);
        assert.ok(!(found.stdout + found.stderr).includes(secret));
        assert.equal(found.stderr.trimEnd().split('\n').length, 2);
      }
    }
  });
});

function wrongPassword(url: string, password: string): string {
  const changed = new URL(url);
  changed.password = password;
  return changed.href;
}

function otherDatabase(url: string): string {
  const changed = new URL(url);
  changed.pathname = '/none';
  return changed.href;
}
