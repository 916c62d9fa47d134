import { type ChildProcess, spawn } from 'node:child_process';
import { open, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, credentials } from '@grpc/grpc-js';
import { BuilderdError, errnoOf } from '../../src/core/errors.ts';
import { throwIfAborted } from '../../src/core/scope.ts';
import { removeMountsUnder } from './mounts-under.ts';

export interface PrivateContainerdOptions {
  /** Everything of this daemon lives below: config, socket, log, root, state. Short: see sun_path. */
  readonly dir: string;
  /** Default: `containerd` from PATH. */
  readonly binary?: string;
  readonly signal?: AbortSignal;
  /** Keep `root/` (images, snapshots) when it stops, so that the next start finds them. */
  readonly keepRoot?: boolean;
  /** A program that ends by exec'ing its arguments, for instance in another mount namespace. */
  readonly wrapper?: readonly string[];
}

/** A containerd of our own: no CRI, no TCP, no file outside `dir` but the shims' /run sockets. */
export interface PrivateContainerd extends AsyncDisposable {
  /** Path of the gRPC socket. */
  readonly address: string;
  readonly pid: number;
  readonly rootDir: string;
  /** Ends the daemon and its shims, unmounts what they left, removes its files. Repeatable. */
  stop(): Promise<void>;
}

const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 10_000;
/** sun_path holds 108 bytes with its NUL (unix(7)), and containerd adds ".ttrpc" to our socket. */
const MAX_SOCKET_PATH_BYTES = 107 - '.ttrpc'.length;

export async function startPrivateContainerd(
  options: PrivateContainerdOptions,
): Promise<PrivateContainerd> {
  const dir = resolve(options.dir);
  const files = filesOf(dir);
  if (Buffer.byteLength(files.address) > MAX_SOCKET_PATH_BYTES) {
    throw new BuilderdError(
      'usage.invalid',
      `Cannot start a private containerd in ${dir}: the path is too long for a unix socket`,
    );
  }
  await mkdir(dir, { recursive: true, mode: 0o711 });
  if (await answersVersion(files.address)) {
    throw new BuilderdError(
      'runtime.conflict',
      `Cannot start a private containerd in ${dir}: one is running there`,
    );
  }
  await removeRuntimeFiles(dir);
  await writeFile(files.config, configText(dir));
  const child = await spawnDaemon(dir, options);
  const pid = child.pid;
  if (pid === undefined) throw startFault(dir, 'no process was made');
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= stopDaemon(dir, child, options.keepRoot ?? false);
    return stopping;
  };
  try {
    await waitUntilServing(dir, child, options.signal);
  } catch (reason) {
    await stop();
    throw reason;
  }
  return { address: files.address, pid, rootDir: files.root, stop, [Symbol.asyncDispose]: stop };
}

function filesOf(dir: string): {
  address: string;
  config: string;
  log: string;
  root: string;
  state: string;
} {
  return {
    address: join(dir, 'c.sock'),
    config: join(dir, 'config.toml'),
    log: join(dir, 'containerd.log'),
    root: join(dir, 'root'),
    state: join(dir, 'state'),
  };
}

/** Version 2 of the format is read by every containerd from 1.3 to 2.x. */
function configText(dir: string): string {
  const { address, root, state } = filesOf(dir);
  const text = JSON.stringify; // A JSON string is a TOML basic string.
  return `version = 2
root = ${text(root)}
state = ${text(state)}
# opt makes /opt/containerd and nri /var/run/nri, outside of our directory. The snapshotters that are
# off need special disks; btrfs also cannot find its mount after pivot_root.
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = ${text(address)}
[plugins."io.containerd.gc.v1.scheduler"]
  startup_delay = "10s"
`;
}

async function spawnDaemon(dir: string, options: PrivateContainerdOptions): Promise<ChildProcess> {
  const { config, log } = filesOf(dir);
  const logFile = await open(log, 'w');
  try {
    // The kernel ends the daemon with us, whatever way we end; a process group of its own keeps
    // the terminal's Ctrl-C away from it, so that stop() decides the order.
    const argv = [...(options.wrapper ?? []), options.binary ?? 'containerd', '--config', config];
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', '--', ...argv], {
      detached: true,
      stdio: ['ignore', logFile.fd, logFile.fd],
    });
    await new Promise<void>((done, fail) => child.once('spawn', done).once('error', fail));
    return child;
  } finally {
    await logFile.close();
  }
}

async function waitUntilServing(
  dir: string,
  child: ChildProcess,
  signal: AbortSignal | undefined,
): Promise<void> {
  const deadline = performance.now() + START_LIMIT_MS;
  for (;;) {
    throwIfAborted(signal, 'start a private containerd');
    if (child.exitCode !== null || child.signalCode !== null) {
      throw startFault(dir, `it ended at once: ${await logTail(dir)}`);
    }
    if (await answersVersion(filesOf(dir).address)) return;
    if (performance.now() > deadline) {
      throw startFault(dir, `it does not answer after ${START_LIMIT_MS} ms: ${await logTail(dir)}`);
    }
    await sleep(50);
  }
}

/** True when the daemon serves Version; the reply's bytes are not looked at. */
function answersVersion(address: string): Promise<boolean> {
  const client = new Client(`unix:${address}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  return new Promise<boolean>((done) => {
    client.makeUnaryRequest(
      '/containerd.services.version.v1.Version/Version',
      (request: Buffer) => request,
      (reply) => reply,
      Buffer.alloc(0),
      { deadline: Date.now() + 2000 },
      (fault) => done(fault === null),
    );
  }).finally(() => client.close());
}

async function stopDaemon(dir: string, child: ChildProcess, keepRoot: boolean): Promise<void> {
  if (!(await end(child, 'SIGTERM', STOP_LIMIT_MS))) await end(child, 'SIGKILL', STOP_LIMIT_MS);
  await removeRuntimeFiles(dir);
  if (keepRoot) return;
  const { root, config, log } = filesOf(dir);
  for (const path of [root, config, log]) await rm(path, { recursive: true, force: true });
}

async function end(child: ChildProcess, name: NodeJS.Signals, limitMs: number): Promise<boolean> {
  if (child.exitCode !== null || child.signalCode !== null) return true;
  const gone = new Promise<boolean>((done) => child.once('exit', () => done(true)));
  child.kill(name);
  const timer = new AbortController();
  const late = sleep(limitMs, false, { signal: timer.signal }).catch(() => false);
  const result = await Promise.race([gone, late]);
  timer.abort();
  return result;
}

/** What a daemon that is gone, ours or one that crashed here earlier, may have left running or mounted. */
async function removeRuntimeFiles(dir: string): Promise<void> {
  const { address, state } = filesOf(dir);
  await endShimsOf(address);
  await removeMountsUnder(dir);
  for (const path of [address, `${address}.ttrpc`, state]) {
    await rm(path, { recursive: true, force: true });
  }
}

/** Shims outlive their daemon by design. Ours carry our socket's path in their arguments. */
async function endShimsOf(address: string): Promise<void> {
  const deadline = performance.now() + STOP_LIMIT_MS;
  for (;;) {
    const shims = await shimsOf(address);
    if (shims.length === 0) return;
    if (performance.now() > deadline) {
      throw new BuilderdError(
        'internal',
        `Cannot end the shims of ${address}: ${shims.join(', ')}`,
      );
    }
    // Containers first: a shim that is killed leaves its container running without a parent.
    const children = await childrenOf(shims);
    for (const pid of children.length > 0 ? children : shims) kill(pid);
    await sleep(20);
  }
}

async function shimsOf(address: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await processIds()) {
    const argv = (await readProc(pid, 'cmdline')).split('\0');
    const isShim = argv[0]?.includes('containerd-shim') ?? false;
    if (isShim && argv.some((word) => word === address || word === `${address}.ttrpc`)) {
      found.push(pid);
    }
  }
  return found;
}

async function childrenOf(parents: readonly number[]): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await processIds()) {
    // proc(5): "pid (comm) state ppid"; comm may hold anything, so count from its last bracket.
    const stat = await readProc(pid, 'stat');
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (state !== 'Z' && parents.includes(Number(parent))) found.push(pid);
  }
  return found;
}

async function processIds(): Promise<number[]> {
  const names = await readdir('/proc');
  return names.filter((name) => /^\d+$/.test(name)).map(Number);
}

/** Empty for a process that has just ended. */
async function readProc(pid: number, name: string): Promise<string> {
  try {
    return await readFile(`/proc/${pid}/${name}`, 'latin1');
  } catch (reason) {
    if (errnoOf(reason) === 'ENOENT' || errnoOf(reason) === 'ESRCH') return '';
    throw reason;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (reason) {
    if (errnoOf(reason) !== 'ESRCH') throw reason;
  }
}

async function logTail(dir: string): Promise<string> {
  const text = await readFile(filesOf(dir).log, 'utf8');
  return text.trim().split('\n').slice(-5).join(' | ') || 'its log is empty';
}

function startFault(dir: string, fact: string): BuilderdError {
  return new BuilderdError(
    'runtime.failed',
    `Cannot start a private containerd in ${dir}: ${fact}`,
  );
}
