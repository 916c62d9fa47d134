import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

export interface RegistryOptions {
  /** Private directory: storage, configuration and log live below it. */
  readonly dir: string;
  /** Basic authentication with one account. */
  readonly auth?: { readonly user: string; readonly password: string };
  /** Token authentication: the registry trusts tokens signed by the certificate's key. */
  readonly token?: {
    readonly realm: string;
    readonly service: string;
    readonly issuer: string;
    readonly rootCertBundle: string;
  };
  /** PEM files. */
  readonly tls?: { readonly cert: string; readonly key: string };
  readonly signal?: AbortSignal;
}

export interface LoopbackRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly pid: number;
  stop(): Promise<void>;
}

const START_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 5_000;

/** Runs Debian's docker-registry on a free loopback port until disposal; never a system service. */
export async function startRegistry(options: RegistryOptions): Promise<LoopbackRegistry> {
  await mkdir(join(options.dir, 'storage'), { recursive: true, mode: 0o700 });
  // A port that was free a moment ago may be taken by a neighbour: try a few.
  for (let attempt = 1; ; attempt += 1) {
    options.signal?.throwIfAborted();
    const port = await freePort();
    const child = await spawnRegistry(options, port);
    const log = collectTail(child);
    try {
      await waitUntilListening(child, port, options.signal);
    } catch (reason) {
      await stopChild(child);
      if (attempt < 5 && /address already in use/.test(log())) continue;
      throw new Error(`Cannot start docker-registry on port ${port}: ${log() || 'no output'}`, {
        cause: reason,
      });
    }
    if (child.pid === undefined) throw new Error('Cannot start docker-registry: no process id');
    const stop = (): Promise<void> => stopChild(child);
    return { host: `127.0.0.1:${port}`, pid: child.pid, stop, [Symbol.asyncDispose]: stop };
  }
}

async function spawnRegistry(options: RegistryOptions, port: number): Promise<ChildProcess> {
  const configPath = join(options.dir, `config-${port}.yml`);
  await writeFile(configPath, await renderConfig(options, port), { mode: 0o600 });
  const child = spawn('docker-registry', ['serve', configPath], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', OTEL_TRACES_EXPORTER: 'none' },
  });
  await Promise.race([
    once(child, 'spawn'),
    once(child, 'error').then(([reason]) => {
      throw new Error('Cannot start docker-registry: is the Debian package installed?', {
        cause: reason,
      });
    }),
  ]);
  return child;
}

async function renderConfig(options: RegistryOptions, port: number): Promise<string> {
  // JSON strings are YAML strings.
  const text = JSON.stringify;
  const lines = [
    'version: 0.1',
    'log: { accesslog: { disabled: true }, level: warn }',
    `storage: { filesystem: { rootdirectory: ${text(join(options.dir, 'storage'))} }, delete: { enabled: true } }`,
    `http:\n  addr: 127.0.0.1:${port}\n  secret: loopback-only`,
  ];
  if (options.tls !== undefined) {
    lines.push(`  tls: { certificate: ${text(options.tls.cert)}, key: ${text(options.tls.key)} }`);
  }
  if (options.auth !== undefined) {
    const path = join(options.dir, 'htpasswd');
    await writeHtpasswd(path, options.auth);
    lines.push(`auth: { htpasswd: { realm: loopback, path: ${text(path)} } }`);
  }
  if (options.token !== undefined) {
    const { realm, service, issuer, rootCertBundle } = options.token;
    lines.push(
      `auth: { token: { realm: ${text(realm)}, service: ${text(service)}, issuer: ${text(issuer)}, rootcertbundle: ${text(rootCertBundle)} } }`,
    );
  }
  return `${lines.join('\n')}\n`;
}

async function writeHtpasswd(
  path: string,
  auth: { readonly user: string; readonly password: string },
): Promise<void> {
  // -i: the password comes through stdin, so that `ps` never shows it.
  const run = promisify(execFile)('htpasswd', ['-inBC', '5', auth.user]);
  run.child.stdin?.end(auth.password);
  const { stdout } = await run;
  await writeFile(path, `${stdout.trim()}\n`);
  await chmod(path, 0o600);
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('Cannot find a free port');
  return address.port;
}

/** Keeps draining the output, so that the registry never blocks on a full pipe. */
function collectTail(child: ChildProcess): () => string {
  let tail = '';
  const add = (chunk: Buffer): void => {
    tail = (tail + chunk.toString('utf8')).slice(-4096);
  };
  child.stdout?.on('data', add);
  child.stderr?.on('data', add);
  return () => tail.trim();
}

async function waitUntilListening(
  child: ChildProcess,
  port: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await accepts(port))) {
    signal?.throwIfAborted();
    if (hasEnded(child)) throw new Error('docker-registry ended at once');
    if (Date.now() > deadline) throw new Error('docker-registry does not listen');
    await sleep(50);
  }
  // Something answers on that port; if our child is gone, it is somebody else.
  await sleep(20);
  if (hasEnded(child)) throw new Error('docker-registry ended at once');
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    const settle = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
  });
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  try {
    await ended;
  } finally {
    clearTimeout(timer);
  }
}
