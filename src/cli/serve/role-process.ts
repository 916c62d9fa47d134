import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { BuilderdError, messageOf } from '../../core/errors.ts';
import {
  type FromRole,
  parseFromRole,
  readLines,
  type RoleName,
  sendLine,
  type ToRole,
} from './role-protocol.ts';

export interface RoleEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** What the role said about its own end. */
  readonly fault?: FromRole & { readonly kind: 'fault' };
  readonly ranMs: number;
}

export interface RoleProcessOptions {
  readonly role: RoleName;
  /** Without settings: anyone who may look at the process can read it. */
  readonly processEnvironment: Readonly<Record<string, string>>;
  readonly onMessage: (message: FromRole) => void;
  readonly onBadMessage: (reason: unknown) => void;
}

const LAST_WORDS_MS = 500;
const PROGRAM = fileURLToPath(new URL('../builderd.mjs', import.meta.url));
/** SIGUSR1 must never open a debugger in a process that holds keys or the containerd socket. */
const NODE_FLAGS = ['--disable-sigusr1', '--max-semi-space-size=4'];

/** One running role. Its settings come by its standard input: its environment holds no secret. */
export class RoleProcess {
  readonly role: RoleName;
  readonly pid: number;
  /** Resolves when the process is gone and its last message was read. */
  readonly ended: Promise<RoleEnd>;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, pid: number, options: RoleProcessOptions) {
    this.role = options.role;
    this.pid = pid;
    this.#child = child;
    this.ended = this.#watch(options);
  }

  static async start(options: RoleProcessOptions, first: ToRole): Promise<RoleProcess> {
    const child = spawn(process.execPath, [...NODE_FLAGS, PROGRAM, 'role', options.role], {
      stdio: ['pipe', 'inherit', 'inherit', 'pipe'],
      env: options.processEnvironment,
      cwd: '/',
    });
    // A role that ends while it is written to reports itself by its end.
    child.stdin?.on('error', () => undefined);
    if (child.pid === undefined) {
      const [reason] = await once(child, 'error');
      throw new BuilderdError(
        'internal',
        `Cannot start the ${options.role}: ${messageOf(reason)}`,
        {
          cause: reason,
        },
      );
    }
    const role = new RoleProcess(child, child.pid, options);
    role.send(first);
    return role;
  }

  send(message: ToRole): void {
    if (this.#child.stdin !== null) sendLine(this.#child.stdin, message);
  }

  kill(signal: 'SIGTERM' | 'SIGKILL' | 'SIGABRT'): void {
    this.#child.kill(signal);
  }

  async #watch({ onMessage, onBadMessage }: RoleProcessOptions): Promise<RoleEnd> {
    const started = performance.now();
    const child = this.#child;
    let fault: (FromRole & { readonly kind: 'fault' }) | undefined;
    const exit = new Promise<Pick<RoleEnd, 'code' | 'signal'>>((resolve) => {
      child.once('exit', (code, signal) => {
        resolve({ code, signal });
        // A program that the role started may still hold the other end of the pipe.
        setTimeout(() => child.stdio[3]?.destroy(), LAST_WORDS_MS).unref();
      });
    });
    const read = async (): Promise<void> => {
      const stream = child.stdio[3];
      if (!(stream instanceof Readable)) return;
      try {
        for await (const line of readLines(stream)) {
          const message = parseFromRole(line);
          if (message.kind === 'fault') fault = message;
          onMessage(message);
        }
      } catch (reason) {
        if (child.exitCode !== null || child.signalCode !== null) return;
        onBadMessage(reason);
        // A role that talks nonsense is not run any further.
        child.kill('SIGKILL');
      }
    };
    const [end] = await Promise.all([exit, read()]);
    return {
      ...end,
      ...(fault === undefined ? {} : { fault }),
      ranMs: performance.now() - started,
    };
  }
}
