import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type ArtifactInit, readArtifactInit } from './artifact-init.ts';
import { guestKernel } from './guest-kernel.ts';
import { makeInitramfs, POWEROFF_WORD } from './initramfs.ts';
import { endChild, exitOf } from './run-program.ts';

export interface BootOptions {
  /** A raw ext4 disk. It is never written to: the guest writes into a temporary overlay. */
  readonly disk: string;
  /** PID 1 of the guest; by default what `<disk>.metadata.json` says that the image runs. */
  readonly init?: ArtifactInit;
  /** The boot has succeeded when the guest's console shows this. */
  readonly expect: string | RegExp;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Each line of the guest's console, without control characters. */
  readonly onLine?: (line: string) => void;
  /** Mount the root read-only. */
  readonly readOnly?: boolean;
  /** Wait until the guest has powered itself off, after the expected line. */
  readonly untilPowerOff?: boolean;
  /** Let the guest write to the disk itself. For copies only. */
  readonly writeThrough?: boolean;
  readonly memoryMiB?: number;
}

export interface BootResult {
  readonly line: string;
  readonly lines: readonly string[];
  readonly kernel: string;
  readonly init: ArtifactInit;
  /** From the start of QEMU to the expected line. */
  readonly elapsedMs: number;
}

/** What a running container or VM host gives an ext4 root: nothing but virtio and ext4. */
const MODULES = ['virtio_pci', 'virtio_blk', 'ext4', 'crc32c_generic'];
const KEPT_LINES = 2000;

/**
 * Boots a disk in QEMU with Debian's kernel until the artifact's own init, as PID 1, has printed
 * the expected line. Throws with the console's last lines when it does not.
 */
export async function bootDisk(options: BootOptions): Promise<BootResult> {
  const init = options.init ?? (await readArtifactInit(`${options.disk}.metadata.json`));
  const kernel = await guestKernel({ signal: options.signal });
  const dir = await mkdtemp(join(tmpdir(), 'builderd-boot-'));
  try {
    const initramfs = join(dir, 'initramfs');
    const modules = await kernel.modules(MODULES);
    const root = { kind: 'disk', readOnly: options.readOnly ?? false } as const;
    await writeFile(initramfs, await makeInitramfs({ modules, root, init }));
    const { lines, line, elapsedMs } = await runGuest(kernel.vmlinux, initramfs, options);
    return { line, lines, elapsedMs, init, kernel: kernel.release };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function runGuest(
  vmlinux: string,
  initramfs: string,
  options: BootOptions,
): Promise<{ lines: string[]; line: string; elapsedMs: number }> {
  const started = performance.now();
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const stop = AbortSignal.any([options.signal, deadline]);
  stop.throwIfAborted();
  // A session of its own keeps the terminal's Ctrl-C away; the kernel ends it if we die.
  const child = spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', '--', ...qemuArgv(vmlinux, initramfs, options)],
    {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const ended = exitOf(child);
  const lines: string[] = [];
  const complaints: string[] = [];
  createInterface({ input: child.stderr }).on('line', (text) => complaints.push(text));
  let found: { line: string; elapsedMs: number } | undefined;
  const seen = new Promise<void>((resolve) => {
    createInterface({ input: child.stdout }).on('line', (raw) => {
      const line = printable(raw);
      lines.push(line);
      if (lines.length > KEPT_LINES) lines.shift();
      options.onLine?.(line);
      if (found !== undefined || !matches(line, options.expect)) return;
      found = { line, elapsedMs: performance.now() - started };
      if (options.untilPowerOff !== true) resolve();
    });
  });
  const aborted = Promise.withResolvers<void>();
  const onAbort = (): void => aborted.resolve();
  stop.addEventListener('abort', onAbort);
  let exit: number | string | undefined;
  try {
    exit = await Promise.race([
      ended,
      seen.then(() => undefined),
      aborted.promise.then(() => undefined),
    ]);
  } finally {
    stop.removeEventListener('abort', onAbort);
    await endChild(child);
  }
  options.signal.throwIfAborted();
  const hung = options.untilPowerOff === true && exit === undefined;
  if (found !== undefined && !hung) return { lines, ...found };
  const why = exit === undefined ? `nothing after ${options.timeoutMs} ms` : `QEMU ended (${exit})`;
  const tail = [...lines.slice(-25), ...complaints.slice(-5)].join('\n');
  throw new Error(
    `Cannot boot ${options.disk}: no line "${String(options.expect)}": ${why}\n${tail}`,
  );
}

function qemuArgv(vmlinux: string, initramfs: string, options: BootOptions): string[] {
  const disk = options.disk.replaceAll(',', ',,'); // QEMU's own escape
  const overlay = options.writeThrough === true ? 'off' : 'on';
  return [
    'qemu-system-x86_64',
    // No KVM: nested virtualisation is often broken, and a boot takes seconds without it.
    ...['-accel', 'tcg,thread=multi', '-M', 'q35', '-cpu', 'max', '-smp', '2'],
    ...['-m', String(options.memoryMiB ?? 512)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
    ...['-drive', `file=${disk},format=raw,if=none,id=root,snapshot=${overlay}`],
    ...['-device', 'virtio-blk-pci,drive=root', '-device', 'virtio-rng-pci'],
    ...['-kernel', vmlinux, '-initrd', initramfs],
    ...['-append', `console=ttyS0 quiet loglevel=3 mitigations=off panic=-1 ${POWEROFF_WORD}`],
  ];
}

function matches(line: string, expect: string | RegExp): boolean {
  return typeof expect === 'string' ? line.includes(expect) : expect.test(line);
}

/** The console belongs to the guest: its escape sequences must not reach a terminal. */
function printable(raw: string): string {
  return raw.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '').replace(/[^\x20-\x7e]/g, '');
}
