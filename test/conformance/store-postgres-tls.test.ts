import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import {
  postgresLack,
  type PrivatePostgres,
  startPrivatePostgres,
} from '../../contrib/dev/private-postgres.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { openDatabase } from '../../src/store/open-database.ts';
import { readPostgresFacts } from '../../src/store/postgres-warnings.ts';
import { silentLog } from '../fixtures/databases.ts';
import { makeCerts, type TestCerts } from '../fixtures/registry-certs.ts';

const signal = AbortSignal.timeout(170_000);
const lack = postgresLack();

suite('TLS to PostgreSQL', lack === undefined ? {} : { skip: lack }, () => {
  let dir = '';
  let certs: TestCerts;
  let strangers: TestCerts;
  let server: PrivatePostgres | undefined;
  let url = '';

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'bd-pg-tls-'));
    // The certificate is for 127.0.0.1 and registry.test.
    certs = await makeCerts(join(dir, 'ours'));
    strangers = await makeCerts(join(dir, 'strangers'));
    server = await startPrivatePostgres({ tls: certs });
    url = await server.createDatabase();
  });

  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  /** The version of TLS, or what went wrong. */
  async function connect(query: string, host = '127.0.0.1'): Promise<string> {
    const target = new URL(url);
    target.hostname = host;
    target.search = query;
    try {
      const config = { type: 'postgres', url: target.href } as const;
      await using database = await openDatabase(config, { signal, log: silentLog });
      return (await readPostgresFacts(database)).tls ?? 'plain';
    } catch (reason) {
      if (!isBuilderdError(reason)) throw reason;
      assert.ok(!reason.message.includes(new URL(url).password));
      return `${reason.code}: ${reason.message}`;
    }
  }

  test('sslmode=require encrypts, whoever answers', async () => {
    assert.match(await connect('?sslmode=require'), /^TLSv1\.[23]$/);
  });

  test('sslmode=require with an authority checks it, as libpq does', async () => {
    assert.match(await connect(`?sslmode=require&sslrootcert=${certs.caFile}`), /^TLSv1/);
    assert.match(
      await connect(`?sslmode=require&sslrootcert=${strangers.caFile}`),
      /^database\.unavailable: .*(signature|certificate|verify)/,
    );
  });

  test('sslmode=verify-full wants the authority and the name', async () => {
    const root = `?sslmode=verify-full&sslrootcert=${certs.caFile}`;
    assert.match(await connect(root), /^TLSv1/);
    assert.match(await connect(root, 'localhost'), /^database\.unavailable: .*localhost/);
    assert.match(await connect('?sslmode=verify-full'), /^database\.unavailable: .*certificate/);
    const strange = `?sslmode=verify-full&sslrootcert=${strangers.caFile}`;
    assert.match(await connect(strange), /^database\.unavailable: /);
  });

  test('sslmode=verify-ca wants the authority, not the name', async () => {
    const root = `?sslmode=verify-ca&sslrootcert=${certs.caFile}`;
    assert.match(await connect(root, 'localhost'), /^TLSv1/);
    const strange = `?sslmode=verify-ca&sslrootcert=${strangers.caFile}`;
    assert.match(await connect(strange, 'localhost'), /^database\.unavailable: /);
  });

  test('a server that wants TLS refuses sslmode=disable, and one without TLS is refused', async () => {
    assert.match(await connect('?sslmode=disable'), /^database\.unavailable: .*refuses the user/);
    await using plain = await startPrivatePostgres();
    const target = new URL(await plain.createDatabase());
    target.search = '?sslmode=require';
    await assert.rejects(
      openDatabase({ type: 'postgres', url: target.href }, { signal, log: silentLog }),
      { code: 'database.unavailable', message: /does not support SSL/ },
    );
  });
});
