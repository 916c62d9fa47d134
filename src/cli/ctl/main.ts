import { homedir } from 'node:os';
import { addAbortSignal } from 'node:stream';
import { BuilderdError } from '../../core/errors.ts';
import type { Io } from '../io.ts';
import { runProcess } from '../run-process.ts';
import type { CtlHost } from './ctl-host.ts';
import { runCtl } from './ctl-program.ts';

/** The process of builderctl. */
export async function main(): Promise<void> {
  await runProcess((argv, io) => runCtl(argv, hostOf(io)));
}

/** The one reader of this program's environment and standard input. */
function hostOf(io: Io): CtlHost {
  return {
    ...io,
    env: process.env,
    homeDirectory: homedir(),
    userId: process.getuid?.() ?? -1,
    readStdin: (maxBytes) => readStdin(maxBytes, io.signal),
    writeBytes: (bytes) =>
      new Promise((resolve, reject) => {
        process.stdout.write(bytes, (reason) => (reason ? reject(reason) : resolve()));
      }),
    nowMs: () => Date.now(),
    random: () => Math.random(),
  };
}

async function readStdin(maxBytes: number, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of addAbortSignal(signal, process.stdin)) {
    const bytes = Buffer.from(chunk as Buffer);
    size += bytes.length;
    if (size > maxBytes) {
      throw new BuilderdError(
        'usage.invalid',
        `Cannot read standard input: it is over ${maxBytes} bytes`,
      );
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}
