import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { endChild } from '../../../contrib/dev/run-program.ts';

export interface HelperCall {
  readonly id: number;
  readonly name: string;
  readonly argument: unknown;
}

export interface HelperAnswer {
  readonly id: number;
  readonly result?: unknown;
  readonly fault?: string;
}

/** A program of this folder in a process of its own, which answers calls: see `answerCalls`. */
export class HelperProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #calls = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (answer: HelperAnswer) => {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if (answer.fault === undefined) waiting?.resolve(answer.result);
      else waiting?.reject(new Error(answer.fault));
    });
    child.once('exit', (code, signal) => {
      const fault = new Error(`A helper of the benchmark ended early: ${code ?? signal}`);
      for (const { reject } of this.#waiting.values()) reject(fault);
    });
  }

  static async start(program: string): Promise<HelperProcess> {
    const child = fork(fileURLToPath(new URL(program, import.meta.url)), {
      execArgv: [],
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    await once(child, 'spawn');
    return new HelperProcess(child);
  }

  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error('A helper of the benchmark was not started');
    return pid;
  }

  /** Both ends are of this folder: the caller knows what the helper answers. */
  async call<T>(name: string, argument?: unknown): Promise<T> {
    const waiting = Promise.withResolvers<unknown>();
    this.#calls += 1;
    const call: HelperCall = { id: this.#calls, name, argument };
    this.#waiting.set(call.id, waiting);
    this.#child.send(call, (fault) => {
      if (fault !== null) waiting.reject(fault);
    });
    return (await waiting.promise) as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await endChild(this.#child);
  }
}
