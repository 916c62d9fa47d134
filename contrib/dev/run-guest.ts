import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { endChild, exitOf } from './run-program.ts';

export interface GuestOptions {
  readonly kernel: string;
  readonly initramfs: string;
  /** Words on the kernel's command line, after the console's. */
  readonly kernelWords: readonly string[];
  readonly memoryMiB: number;
  /** More QEMU arguments: disks and shares. */
  readonly devices: readonly string[];
  /** What the guest's console must show. */
  readonly expect: string | RegExp;
  /** Wait until the guest has powered itself off, after the expected line. */
  readonly untilPowerOff: boolean;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly onLine?: (line: string) => void;
}

export interface GuestResult {
  readonly line: string;
  /** The console from its start, or its last 2000 lines. */
  readonly lines: readonly string[];
  /** From the start of QEMU to the expected line. */
  readonly elapsedMs: number;
}

const KEPT_LINES = 2000;
/** A prompt has no newline: text that has stood this long counts as a line. */
const PROMPT_MS = 1000;
const MAX_LINE_CHARS = 4096;

/** Runs one QEMU machine until the expected line; throws with the console's last lines if none. */
export async function runGuest(options: GuestOptions): Promise<GuestResult> {
  options.signal.throwIfAborted();
  const started = performance.now();
  // A session of its own keeps the terminal's Ctrl-C away; the kernel ends it if we die.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...qemuArgv(options)], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = exitOf(child);
  const over = Promise.withResolvers<undefined>();
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const stop = AbortSignal.any([options.signal, deadline]);
  const onStop = (): void => over.resolve(undefined);
  stop.addEventListener('abort', onStop);

  const lines: string[] = [];
  const complaints: string[] = [];
  let found: { line: string; elapsedMs: number } | undefined;
  readLines(child.stderr, (line) => complaints.push(line));
  readLines(child.stdout, (line) => {
    lines.push(line);
    if (lines.length > KEPT_LINES) lines.shift();
    options.onLine?.(line);
    if (found !== undefined || !matches(line, options.expect)) return;
    found = { line, elapsedMs: performance.now() - started };
    if (!options.untilPowerOff) over.resolve(undefined);
  });
  let exit: number | string | undefined;
  try {
    exit = await Promise.race([ended, over.promise]);
  } finally {
    stop.removeEventListener('abort', onStop);
    await endChild(child);
  }
  options.signal.throwIfAborted();
  if (found !== undefined && (exit === 0 || !options.untilPowerOff)) return { ...found, lines };
  const what = found === undefined ? `no line ${String(options.expect)}` : 'no power-off';
  const why = exit === undefined ? `${options.timeoutMs} ms are over` : `QEMU ended (${exit})`;
  const tail = [...lines.slice(-25), ...complaints.slice(-5)].join('\n');
  throw new Error(`Cannot boot the guest: ${what}: ${why}\n${tail}`);
}

function qemuArgv(options: GuestOptions): string[] {
  const words = ['console=ttyS0', 'mitigations=off', 'panic=-1', ...options.kernelWords];
  return [
    'qemu-system-x86_64',
    // No KVM: nested virtualisation is often broken, and a boot takes seconds without it.
    // No protection keys: V8 guards its code with them, and under TCG with two threads one start
    // of Node in thirty died of a segmentation fault (QEMU 7.2); without them none has.
    ...['-accel', 'tcg,thread=multi', '-M', 'q35', '-cpu', 'max,-pku', '-smp', '2'],
    ...['-m', String(options.memoryMiB), '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-no-reboot', '-serial', 'stdio', '-device', 'virtio-rng-pci', ...options.devices],
    ...['-kernel', options.kernel, '-initrd', options.initramfs, '-append', words.join(' ')],
  ];
}

/** Lines without their control characters: the console belongs to the guest, not to a terminal. */
function readLines(stream: Readable, onLine: (line: string) => void): void {
  let rest = '';
  let timer: NodeJS.Timeout | undefined;
  const flush = (): void => {
    const line = printable(rest);
    rest = '';
    if (line !== '') onLine(line);
  };
  stream.setEncoding('latin1');
  stream.on('data', (chunk: string) => {
    clearTimeout(timer);
    const parts = (rest + chunk).split('\n');
    rest = (parts.pop() ?? '').slice(-MAX_LINE_CHARS);
    for (const part of parts) onLine(printable(part));
    timer = setTimeout(flush, PROMPT_MS);
  });
  stream.once('end', () => {
    clearTimeout(timer);
    flush();
  });
}

function printable(raw: string): string {
  return raw.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '').replace(/[^\x20-\x7e]/g, '');
}

function matches(line: string, expect: string | RegExp): boolean {
  return typeof expect === 'string' ? line.includes(expect) : expect.test(line);
}
