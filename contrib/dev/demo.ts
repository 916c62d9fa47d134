import './require-node.ts';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../../src/core/errors.ts';
import { formatBytes, formatDuration } from '../../src/core/units.ts';
import { bootDisk } from './boot.ts';
import { cacheRoot } from './cache.ts';
import { makeDebianBase } from './debian-base.ts';
import { startRegistry } from './loopback-registry.ts';
import { startPrivateContainerd } from './private-containerd.ts';
import { pushLayout } from './push-layout.ts';
import { exitOf, runProgram } from './run-program.ts';

/**
 * The whole product on one screen: a real pull through containerd's socket, the conversion, a
 * file system check and a boot. Everything that it starts belongs to one stack and ends with it.
 */

const ROOT = resolve(import.meta.dirname, '../..');
const BOOT_LIMIT_MS = 180_000;
/** Anything but the kernel's own messages and our initramfs: something the artifact said. */
const ANY_LINE = /^(?!\[ *\d+\.\d+\]|initramfs: ).*\S/;

interface Source {
  readonly reference: string;
  /** `host:port` of a registry of ours, which the egress guard must be told about. */
  readonly egress?: string;
  readonly expect: string | RegExp;
}

async function demo(out: string, stack: AsyncDisposableStack, signal: AbortSignal): Promise<void> {
  const image = process.env['IMAGE'] || undefined;
  await mkdir(dirname(out), { recursive: true });
  const scratch = await mkdtemp(join(tmpdir(), 'builderd-demo-'));
  stack.defer(() => rm(scratch, { recursive: true, force: true }));

  const address = await containerdAddress(scratch, image !== undefined, stack, signal);
  const source: Source =
    image === undefined
      ? await serveDebianBase(scratch, stack, signal)
      : { reference: image, expect: ANY_LINE };

  step(`builderd build ${source.reference}`);
  const buildMs = await timed(() => build(source, out, address, signal));

  step(`e2fsck -fn ${shown(out)}`);
  const report = await runProgram('e2fsck', ['-fn', '--', out], { signal });
  console.log(`  ${report.trim().split('\n').at(-1)}`);

  step('booting the disk in QEMU; its own init or entrypoint is PID 1');
  const boot = await bootDisk({
    disk: out,
    expect: source.expect,
    timeoutMs: BOOT_LIMIT_MS,
    memoryMiB: 1024,
    signal,
    onLine: (line) => console.log(`  | ${line}`),
  });

  const { size, blocks } = await stat(out);
  console.log(`
Done. ${source.reference} is now a disk that boots.
  file    ${shown(out)} (${formatBytes(size)}, ${formatBytes(blocks * 512)} on disk)
  about   ${shown(out)}.metadata.json
  PID 1   ${boot.init.argv.join(' ')}
  time    build ${formatDuration(buildMs)}, boot ${formatDuration(boot.elapsedMs)} (emulated, kernel ${boot.kernel})

Next, an image of your own:
  IMAGE=docker.io/library/nginx:latest npm run demo`);
}

async function containerdAddress(
  scratch: string,
  keepImages: boolean,
  stack: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<string> {
  const configured =
    process.env['UNKEY_BUILDERD_CONTAINERD_ADDRESS'] ?? process.env['CONTAINERD_ADDRESS'];
  if (configured !== undefined && configured !== '') {
    step(`using the containerd at ${configured}`);
    return configured;
  }
  step('starting a private containerd (own root, state and socket)');
  // What IMAGE= pulled is kept for the next run; the Debian base costs nothing to pull again.
  const dir = keepImages ? join(cacheRoot(), 'demo') : join(scratch, 'c');
  const containerd = await startPrivateContainerd({ dir, keepRoot: keepImages, signal });
  stack.use(containerd);
  return containerd.address;
}

async function serveDebianBase(
  scratch: string,
  stack: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<Source> {
  step('making a Debian base image from the apt mirror of this machine (kept for the next time)');
  const base = await makeDebianBase({ signal });
  step('serving it from a loopback registry');
  const registry = await startRegistry({ dir: join(scratch, 'registry'), signal });
  stack.use(registry);
  await pushLayout({
    layoutDir: base.layoutDir,
    registry: registry.host,
    repository: 'debian',
    tag: base.tag,
    signal,
  });
  return {
    reference: `${registry.host}/debian:${base.tag}`,
    egress: registry.host,
    expect: 'builderd: hello from PID 1 of ',
  };
}

/** The real command line, on this terminal, so that its own live progress shows. */
async function build(
  source: Source,
  out: string,
  address: string,
  signal: AbortSignal,
): Promise<void> {
  const allow = [process.env['UNKEY_BUILDERD_EGRESS_ALLOW'], source.egress].filter(Boolean);
  const cli = join(ROOT, 'src/cli/builderd.mjs');
  const args = ['build', source.reference, '--format', 'ext4', '--size', 'min+64M', '-o', out];
  // A session of its own: it gets one signal, from us, and not a second from the terminal.
  const child = spawn(
    'setpriv',
    ['--pdeathsig', 'TERM', '--', process.execPath, cli, ...args, '--containerd-address', address],
    {
      stdio: 'inherit',
      detached: true,
      env: {
        ...process.env,
        ...(allow.length > 0 ? { UNKEY_BUILDERD_EGRESS_ALLOW: allow.join(',') } : {}),
      },
    },
  );
  const onAbort = (): void => void child.kill('SIGINT');
  signal.addEventListener('abort', onAbort);
  try {
    const code = await exitOf(child);
    signal.throwIfAborted();
    if (code !== 0) throw new Error(`builderd build ended with ${code}`);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

async function timed(work: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

function step(text: string): void {
  console.log(`▸ ${text}`);
}

function shown(path: string): string {
  const short = relative(process.cwd(), path);
  return short.startsWith('..') ? path : short;
}

async function main(): Promise<number> {
  const { values } = parseArgs({ strict: false, options: { out: { type: 'string' } } });
  if (Object.keys(values).some((name) => name !== 'out') || values.out === true) {
    console.error('Use: [IMAGE=…] npm run demo [-- --out FILE]');
    return 2;
  }
  const out = resolve(values.out || join(ROOT, '.cache/demo/rootfs.ext4'));
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => stop.abort(new Error(`stopped by ${name}`)));
  }
  try {
    await using stack = new AsyncDisposableStack();
    await demo(out, stack, stop.signal);
    return 0;
  } catch (reason) {
    if (stop.signal.aborted) {
      console.error('\nStopped; nothing is left running or mounted.');
      return 130;
    }
    console.error(`\nThe demo failed: ${messageOf(reason)}`);
    return 1;
  }
}

process.exitCode = await main();
