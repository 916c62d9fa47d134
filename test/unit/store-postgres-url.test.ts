import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PeerCertificate } from 'node:tls';
import { databaseConfig } from '../../src/cli/database-config.ts';
import { parseConfig } from '../../src/cli/config.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { tlsOptionsFor } from '../../src/store/postgres-tls.ts';
import { isLocal, parsePostgresUrl } from '../../src/store/postgres-url.ts';
import { warningsOf } from '../../src/store/postgres-warnings.ts';

test('parsePostgresUrl() reads the URLs of the operations guide', () => {
  const plain = parsePostgresUrl('postgres://builderd:password@postgres:5432/builderd');
  assert.deepEqual(plain, {
    host: 'postgres',
    port: 5432,
    user: 'builderd',
    password: 'password',
    database: 'builderd',
    sslMode: 'disable',
    applicationName: 'builderd',
    connectTimeoutMs: 10_000,
    poolMax: 10,
    poolMin: 0,
    maxIdleMs: 60_000,
    maxLifetimeMs: 0,
  });
  const tls = parsePostgresUrl(
    'postgres://builderd:secure_password@postgres.example.com:5432/builderd?sslmode=require',
  );
  assert.deepEqual([tls.host, tls.sslMode], ['postgres.example.com', 'require']);
  const pool = parsePostgresUrl(
    'postgres://builderd:password@postgres:5432/builderd?pool_max_conns=100',
  );
  assert.equal(pool.poolMax, 100);
});

test('parsePostgresUrl() decodes what a URL encodes, and finds sockets and addresses', () => {
  const odd = parsePostgresUrl('postgresql://a%40b:p%2F%23%C3%BC%25@[::1]/d%20b');
  assert.deepEqual(
    [odd.user, odd.password, odd.host, odd.port, odd.database],
    ['a@b', 'p/#ü%', '::1', 5432, 'd b'],
  );
  const socket = parsePostgresUrl('postgres://u@local/db?host=/run/postgresql&port=5433');
  assert.deepEqual([socket.host, socket.port, isLocal(socket)], ['/run/postgresql', 5433, true]);
  const bare = parsePostgresUrl('postgres://u@h');
  assert.deepEqual([bare.database, bare.password, isLocal(bare)], ['u', '', false]);
});

const BAD: readonly (readonly [string, RegExp])[] = [
  ['', /want postgres:/],
  ['localhost:5432', /want postgres:/],
  ['https://u:p@h/d', /want postgres:/],
  ['postgres://h/d', /it names no user/],
  ['postgres://u:p@h1,h2/d', /several hosts|want postgres:/],
  ['postgres://u:p%ff@h/d', /its password is not percent-encoded/],
  ['postgres://u:p%00@h/d', /its password holds a NUL/],
  ['postgres://u:p@h/d?sslmode=prefer', /protect against nobody/],
  ['postgres://u:p@h/d?sslmode=allow', /want disable, require, verify-ca, verify-full/],
  ['postgres://u:p@h/d?sslmode=verify-ca', /needs sslrootcert/],
  ['postgres://u:p@h/d?sslmode=verify-ca&sslrootcert=system', /needs sslrootcert/],
  ['postgres://u:p@h/d?sslmode=require&sslmode=disable', /has sslmode twice/],
  ['postgres://u:p@h/d?sslcert=/x', /sslcert and sslkey go together/],
  ['postgres://u:p@h/d?pool_max_conns=0', /pool_max_conns is "0"; want 1 … 1000/],
  ['postgres://u:p@h/d?pool_max_conns=1e3', /pool_max_conns/],
  ['postgres://u:p@h/d?pool_max_conn_idle_time=5', /want a duration/],
  ['postgres://u:p@h/d?connect_timeout=0', /connect_timeout/],
  ['postgres://u:p@h/d?options=-c%20x', /it has the parameter "options"; known are/],
  ['postgres://u:p@h:0/d', /port is "0"/],
];

test('parsePostgresUrl() says what is wrong, and never what the password is', () => {
  for (const [url, text] of BAD) {
    const secret = url.replace(':p', ':hunter2-secret');
    assert.throws(
      () => parsePostgresUrl(secret),
      (reason) => {
        assert.ok(isBuilderdError(reason, 'config.invalid'));
        assert.match(reason.message, text, url);
        assert.ok(!reason.message.includes('hunter2'));
        return true;
      },
    );
  }
});

test('tlsOptionsFor() means by each sslmode what libpq means', () => {
  const of = (query: string) =>
    tlsOptionsFor(parsePostgresUrl(`postgres://u@db.example/d?${query}`));
  assert.equal(of('sslmode=disable'), false);
  assert.deepEqual(of('sslmode=require'), { rejectUnauthorized: false });
  const full = of('sslmode=verify-full');
  assert.ok(full !== false && full.rejectUnauthorized === true);
  const certificate = { subject: { CN: 'other' }, subjectaltname: 'DNS:other.example' };
  // Only these two fields are looked at.
  const check = full.checkServerIdentity?.('db.example', certificate as unknown as PeerCertificate);
  assert.match(check?.message ?? '', /db\.example/);
  assert.throws(() => of('sslmode=verify-ca&sslrootcert=/none'), {
    code: 'config.invalid',
    message: /the file that sslrootcert of DATABASE_URL names/,
  });
});

test('H11 and H12: warningsOf() tells of TLS without identity, plain connections and too large pools', () => {
  const facts = {
    version: '15.1',
    tls: undefined,
    maxConnections: 100,
    reservedConnections: 3,
    synchronousCommit: 'on',
    isReadOnly: false,
  };
  const of = (url: string, more = {}): readonly string[] =>
    warningsOf(parsePostgresUrl(url), { ...facts, ...more }).map(({ message }) => message);
  assert.match(of('postgres://u@h/d?sslmode=require').join(), /does not check who answers/);
  assert.match(of('postgres://u@h/d').join(), /not encrypted/);
  assert.deepEqual(of('postgres://u@127.0.0.1/d'), []);
  assert.deepEqual(of('postgres://u@h/d?sslmode=verify-full'), []);
  const [large] = warningsOf(
    parsePostgresUrl('postgres://u@localhost/d?pool_max_conns=100'),
    facts,
  );
  assert.deepEqual([large?.current, large?.limit], [202, 97]);
  const small = parsePostgresUrl('postgres://u@localhost/d?pool_max_conns=9');
  assert.deepEqual(warningsOf(small, facts, 4), []);
  const [many] = warningsOf(small, facts, 5);
  assert.deepEqual([many?.current, many?.limit], [100, 97]);
  assert.match(many?.message ?? '', /^The pools of all hosts together may want more/);
  assert.match(of('postgres://u@localhost/d', { synchronousCommit: 'off' }).join(), /loses builds/);
});

const config = (environment: Readonly<Record<string, string>>) =>
  databaseConfig(
    parseConfig(
      Object.fromEntries(
        Object.entries({ DATABASE_TYPE: 'postgres', ...environment }).map(([name, value]) => [
          `UNKEY_BUILDERD_${name}`,
          value,
        ]),
      ),
    ),
  );

test('databaseConfig() takes DATABASE_URL before DATABASE_HOST and keeps the wish for TLS', () => {
  assert.deepEqual(config({ DATABASE_TYPE: 'sqlite', DATABASE_DATA_DIR: '/x' }), {
    type: 'sqlite',
    directory: '/x',
  });
  const url = 'postgres://u:p@h:5432/d';
  assert.deepEqual(config({ DATABASE_URL: url, DATABASE_HOST: 'other' }), {
    type: 'postgres',
    url: `${url}?sslmode=disable`,
  });
  const single = config({
    DATABASE_HOST: 'db.example',
    DATABASE_PORT: '6543',
    DATABASE_NAME: 'n/m',
    DATABASE_USERNAME: 'u@x',
    DATABASE_PASSWORD: 'p:/?#%',
    DATABASE_SSL_MODE: 'verify-full',
  });
  const parsed = single.type === 'postgres' ? parsePostgresUrl(single.url) : undefined;
  assert.deepEqual(
    [parsed?.host, parsed?.port, parsed?.database, parsed?.user, parsed?.password, parsed?.sslMode],
    ['db.example', 6543, 'n/m', 'u@x', 'p:/?#%', 'verify-full'],
  );
  const wished = config({ DATABASE_URL: url, DATABASE_SSL_MODE: 'verify-full' });
  assert.deepEqual(wished, { type: 'postgres', url: `${url}?sslmode=verify-full` });
  const said = config({ DATABASE_URL: `${url}?sslmode=require`, DATABASE_SSL_MODE: 'disable' });
  assert.deepEqual(said, { type: 'postgres', url: `${url}?sslmode=require` });
});

test('databaseConfig() takes sockets and IPv6 addresses as DATABASE_HOST, and no tricks', () => {
  const hostOf = (host: string): string | undefined => {
    const found = config({ DATABASE_HOST: host });
    return found.type === 'postgres' ? parsePostgresUrl(found.url).host : undefined;
  };
  assert.equal(hostOf('/run/postgresql'), '/run/postgresql');
  assert.equal(hostOf('::1'), '::1');
  assert.equal(hostOf('[::1]'), '::1');
  assert.equal(hostOf('10.0.0.5'), '10.0.0.5');
  for (const host of ['user@evil', 'h/evil', 'h?x=1', 'h#x', 'a b']) {
    assert.throws(() => hostOf(host), { code: 'config.invalid' }, host);
  }
});
