import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  appendFile,
  chmod,
  chown,
  copyFile,
  mkdtemp,
  open,
  readFile,
  rm,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { BuilderdError, messageOf } from '../../src/core/errors.ts';

const run = promisify(execFile);

export interface PrivatePostgresOptions {
  /** Lines for postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>;
  /** PEM files; switches TLS on and refuses plain connections. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
}

/** A PostgreSQL of our own on a loopback port: all of it is gone after disposal. */
export interface PrivatePostgres extends AsyncDisposable {
  readonly port: number;
  /** Of the superuser `builderd`. */
  readonly password: string;
  url(database: string): string;
  /** Makes a database, empty or a copy of one that nobody uses now, and gives its URL. */
  createDatabase(options?: { readonly template?: string }): Promise<string>;
  /** Ends it as a crash does (`immediate`), or in order, cutting its clients off (`fast`). */
  stop(mode: 'immediate' | 'fast'): Promise<void>;
  /** Starts it again on the same port with the same data. */
  start(): Promise<void>;
}

/** Debian's place; other distributions have the programs in PATH. */
const BIN_DIRS = [15, 16, 17, 18, 14, 13].map((version) => `/usr/lib/postgresql/${version}/bin`);
const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 20_000;
const USER = 'builderd';

/** Why there can be no private PostgreSQL here, for a skip; undefined when there can. */
export function postgresLack(): string | undefined {
  return findBin() === undefined ? 'host lacks postgresql' : undefined;
}

export async function startPrivatePostgres(
  options: PrivatePostgresOptions = {},
): Promise<PrivatePostgres> {
  const bin = findBin();
  if (bin === undefined) {
    throw new BuilderdError(
      'host.unsupported',
      'Cannot start a private PostgreSQL: it is not installed',
    );
  }
  const account = await serverAccount();
  const dir = await mkdtemp(join(tmpdir(), 'bd-pg-'));
  const password = randomBytes(12).toString('hex');
  try {
    if (account !== undefined) await chown(dir, account.uid, account.gid);
    const place = { bin, dir, password, account, ssl: options.tls !== undefined };
    await initialise(place, options);
    // A port that was free a moment ago may be taken by a neighbour: try a few.
    for (let tries = 1; ; tries += 1) {
      try {
        return await serve({ ...place, port: await freePort() });
      } catch (reason) {
        if (tries === 5 || !/Address already in use/.test(messageOf(reason))) throw reason;
      }
    }
  } catch (reason) {
    await rm(dir, { recursive: true, force: true });
    throw reason;
  }
}

interface Account {
  readonly uid: number;
  readonly gid: number;
}

interface Place {
  readonly bin: string;
  readonly dir: string;
  readonly password: string;
  /** The server refuses to run as root. */
  readonly account: Account | undefined;
  readonly ssl: boolean;
}

interface ServerPlace extends Place {
  readonly port: number;
}

function findBin(): string | undefined {
  return BIN_DIRS.find((dir) => existsSync(join(dir, 'initdb')));
}

async function serverAccount(): Promise<Account | undefined> {
  if (process.geteuid?.() !== 0) return undefined;
  const { stdout } = await run('getent', ['passwd', 'postgres', 'nobody']).catch(
    (reason: unknown) => ({ stdout: stdoutOf(reason) }),
  );
  const [, , uid, gid] = stdout.split('\n', 1)[0]?.split(':') ?? [];
  if (uid === undefined || gid === undefined) throw new Error('Cannot find a user for PostgreSQL');
  return { uid: Number(uid), gid: Number(gid) };
}

/** getent(1) exits with 2 when one of the names is unknown. */
function stdoutOf(reason: unknown): string {
  return reason instanceof Error && 'stdout' in reason ? String(reason.stdout) : '';
}

function command({ account }: Place, argv: readonly string[]): [string, string[]] {
  const as =
    account === undefined
      ? []
      : [`--reuid=${account.uid}`, `--regid=${account.gid}`, '--clear-groups'];
  // The kernel ends the server with us, whatever way we end.
  return ['setpriv', [...as, '--pdeathsig', 'INT', '--', ...argv]];
}

async function initialise(place: Place, options: PrivatePostgresOptions): Promise<void> {
  const { bin, dir, password, account } = place;
  const secret = join(dir, 'password');
  await writeFile(secret, password, { mode: 0o600 });
  if (account !== undefined) await chown(secret, account.uid, account.gid);
  const data = join(dir, 'data');
  const [file, args] = command(place, [
    ...[join(bin, 'initdb'), '--no-sync', '--encoding=UTF8', '--locale=C', '-D', data],
    ...['-U', USER, '--auth=scram-sha-256', `--pwfile=${secret}`],
  ]);
  await run(file, args, { cwd: dir, env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' } });
  await rm(secret);
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    shared_buffers: '16MB',
    fsync: 'off',
    max_connections: '60',
    ...options.settings,
  };
  if (options.tls !== undefined) {
    settings['ssl'] = 'on';
    await copyTls(data, options.tls, account);
    await writeFile(join(data, 'pg_hba.conf'), 'hostssl all all 127.0.0.1/32 scram-sha-256\n');
  }
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`);
  await appendFile(join(data, 'postgresql.conf'), lines.join(''));
}

async function copyTls(
  data: string,
  { certFile, keyFile }: { readonly certFile: string; readonly keyFile: string },
  account: Account | undefined,
): Promise<void> {
  for (const [from, name] of [
    [certFile, 'server.crt'],
    [keyFile, 'server.key'],
  ] as const) {
    const to = join(data, name);
    await copyFile(from, to);
    await chmod(to, 0o600);
    if (account !== undefined) await chown(to, account.uid, account.gid);
  }
}

async function serve(place: ServerPlace): Promise<PrivatePostgres> {
  const { dir, password, port } = place;
  const url = (database: string): string =>
    `postgres://${USER}:${password}@127.0.0.1:${port}/${database}`;
  let child: ChildProcess | undefined;
  let databases = 0;
  const server: PrivatePostgres = {
    port,
    password,
    url,
    async createDatabase({ template = 'template1' } = {}) {
      databases += 1;
      const name = `test_${databases}`;
      const client = adminClient(place, url('postgres'));
      await client.connect();
      try {
        await client.query(`create database ${name} template ${template}`);
      } finally {
        await client.end();
      }
      return url(name);
    },
    async stop(mode) {
      if (child === undefined) return;
      await end(child, mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
      child = undefined;
    },
    async start() {
      child ??= await spawnServer(place);
      await waitUntilServing(place, child, url('postgres'));
    },
    async [Symbol.asyncDispose]() {
      await server.stop('immediate');
      await rm(dir, { recursive: true, force: true });
    },
  };
  try {
    await server.start();
    return server;
  } catch (reason) {
    await server.stop('immediate');
    throw reason;
  }
}

async function spawnServer(place: ServerPlace): Promise<ChildProcess> {
  const log = await open(join(place.dir, 'log'), 'a');
  try {
    const [file, args] = command(place, [
      join(place.bin, 'postgres'),
      ...['-D', join(place.dir, 'data'), '-p', String(place.port)],
    ]);
    const child = spawn(file, args, {
      cwd: place.dir,
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
    });
    await new Promise<void>((done, fail) => child.once('spawn', done).once('error', fail));
    return child;
  } finally {
    await log.close();
  }
}

/** Its certificate is what tests are about; who answers on our port is our server. */
function adminClient({ ssl }: Place, url: string): pg.Client {
  return new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 5000,
    ssl: ssl ? { rejectUnauthorized: false } : false,
  });
}

async function waitUntilServing(place: Place, child: ChildProcess, url: string): Promise<void> {
  const deadline = performance.now() + START_LIMIT_MS;
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw await startFault(place, 'it ended at once');
    }
    const client = adminClient(place, url);
    client.on('error', () => undefined);
    try {
      await client.connect();
      await client.end();
      return;
    } catch (reason) {
      if (performance.now() > deadline) throw await startFault(place, messageOf(reason));
    }
    await sleep(50);
  }
}

async function startFault({ dir }: Place, fact: string): Promise<BuilderdError> {
  const log = await readFile(join(dir, 'log'), 'utf8');
  const tail = log.trim().split('\n').slice(-8).join(' | ');
  return new BuilderdError('internal', `Cannot start a private PostgreSQL: ${fact}: ${tail}`);
}

async function end(child: ChildProcess, name: NodeJS.Signals): Promise<void> {
  for (const signal of [name, 'SIGKILL'] as const) {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise<void>((done) => child.once('exit', () => done()));
    child.kill(signal);
    const timer = new AbortController();
    await Promise.race([
      gone,
      sleep(STOP_LIMIT_MS, undefined, { signal: timer.signal }).catch(() => undefined),
    ]);
    timer.abort();
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (address === null || typeof address === 'string') throw new Error('Cannot find a free port');
  return address.port;
}
