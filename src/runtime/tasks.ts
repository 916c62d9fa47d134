import type { Timestamp__Output } from './generated/google/protobuf/Timestamp.ts';
import type { Process__Output } from './generated/containerd/v1/types/Process.ts';
import { wireMount } from './diffs.ts';
import { hasStatus } from './grpc-fault.ts';
import type { Protocol } from './protocol.ts';
import type { NamespacedCall, RpcChannel } from './rpc-channel.ts';
import type { SnapshotMount } from './snapshots.ts';
import { parseWireTime, required } from './wire-values.ts';

export interface NewTask {
  readonly rootfs: readonly SnapshotMount[];
  /** FIFO or file:// paths in the daemon's mount namespace; absent is /dev/null. */
  readonly stdin?: string;
  readonly stdout?: string;
  readonly stderr?: string;
}

export type TaskStatus = Process__Output['status'];

export interface TaskState {
  readonly id: string;
  readonly pid: number;
  readonly status: TaskStatus;
  readonly exit?: TaskExit;
}

export interface TaskExit {
  readonly exitStatus: number;
  readonly exitedAt?: Date;
}

/** A cut-off Create or Delete leaves a bundle and a shim behind (containerd issues 13893, 11376). */
const LIFECYCLE_LIMIT_MS = 120_000;
/** Deadlines need an end; builds are shorter, and a Wait can be repeated. */
const WAIT_LIMIT_MS = 24 * 3600_000;

export class Tasks {
  readonly #rpc: RpcChannel;
  readonly #waiting: RpcChannel;
  readonly #methods: Protocol['tasks'];

  constructor(rpc: RpcChannel, waiting: RpcChannel, methods: Protocol['tasks']) {
    this.#rpc = rpc;
    this.#waiting = waiting;
    this.#methods = methods;
  }

  /** Makes the process of the container without starting its program. Wait before start. */
  async create(containerId: string, task: NewTask, call: NamespacedCall): Promise<number> {
    const request = {
      container_id: containerId,
      rootfs: task.rootfs.map(wireMount),
      stdin: task.stdin ?? '',
      stdout: task.stdout ?? '',
      stderr: task.stderr ?? '',
    };
    const traits = { doing: `create the task of ${containerId}` };
    const { pid } = await this.#rpc.unary(this.#methods.Create, request, patient(call), traits);
    return pid;
  }

  async start(containerId: string, call: NamespacedCall): Promise<void> {
    const traits = { doing: `start the task of ${containerId}` };
    await this.#rpc.unary(
      this.#methods.Start,
      { container_id: containerId },
      patient(call),
      traits,
    );
  }

  /** Resolves when the task has ended; throws `runtime.not_found` if there is none. */
  async wait(containerId: string, call: NamespacedCall): Promise<TaskExit> {
    const traits = { doing: `wait for the task of ${containerId}`, idempotent: true };
    const { exit_status: exitStatus, exited_at: exitedAt } = await this.#waiting.unary(
      this.#methods.Wait,
      { container_id: containerId },
      { timeoutMs: WAIT_LIMIT_MS, ...call },
      traits,
    );
    return exitOf(exitStatus, exitedAt);
  }

  async get(containerId: string, call: NamespacedCall): Promise<TaskState | undefined> {
    const traits = { doing: `look up the task of ${containerId}`, idempotent: true };
    try {
      const { process } = await this.#rpc.unary(
        this.#methods.Get,
        { container_id: containerId },
        call,
        traits,
      );
      return parseProcess(required(process, 'the task'));
    } catch (reason) {
      if (hasStatus(reason, 'NOT_FOUND')) return undefined;
      throw reason;
    }
  }

  async list(call: NamespacedCall): Promise<TaskState[]> {
    const traits = { doing: 'list the tasks', idempotent: true };
    const { tasks } = await this.#rpc.unary(this.#methods.List, {}, call, traits);
    return tasks.map(parseProcess);
  }

  /** A process that is gone is a no-op. `all` signals every process of the container. */
  async kill(
    containerId: string,
    options: { readonly signalNumber: number; readonly all: boolean },
    call: NamespacedCall,
  ): Promise<void> {
    const { signalNumber, all } = options;
    const request = { container_id: containerId, signal: signalNumber, all };
    const traits = { doing: `signal the task of ${containerId}`, idempotent: true };
    try {
      await this.#rpc.unary(this.#methods.Kill, request, call, traits);
    } catch (reason) {
      if (!hasStatus(reason, 'NOT_FOUND')) throw reason;
    }
  }

  /**
   * Removes an ended task and its shim. Undefined when it is gone already. Throws while it runs,
   * by containerd's mood `runtime.conflict` or `runtime.failed`; a task that was never started
   * must be killed before, too.
   */
  async delete(containerId: string, call: NamespacedCall): Promise<TaskExit | undefined> {
    const traits = { doing: `delete the task of ${containerId}`, idempotent: true };
    try {
      const { exit_status: exitStatus, exited_at: exitedAt } = await this.#rpc.unary(
        this.#methods.Delete,
        { container_id: containerId },
        patient(call),
        traits,
      );
      return exitOf(exitStatus, exitedAt);
    } catch (reason) {
      if (hasStatus(reason, 'NOT_FOUND')) return undefined;
      throw reason;
    }
  }

  async closeStdin(containerId: string, call: NamespacedCall): Promise<void> {
    const request = { container_id: containerId, stdin: true };
    const traits = { doing: `close the standard input of ${containerId}`, idempotent: true };
    await this.#rpc.unary(this.#methods.CloseIO, request, call, traits);
  }
}

function patient(call: NamespacedCall): NamespacedCall {
  return { timeoutMs: LIFECYCLE_LIMIT_MS, ...call };
}

function exitOf(exitStatus: number, wireTime: Timestamp__Output | null): TaskExit {
  const exitedAt = parseWireTime(wireTime);
  return { exitStatus, ...(exitedAt === undefined ? {} : { exitedAt }) };
}

function parseProcess(wire: Process__Output): TaskState {
  // Get names the process in `id`, and leaves container_id empty on some daemons.
  const { container_id: containerId, id, pid, status, exit_status: exitStatus } = wire;
  return {
    id: containerId === '' ? id : containerId,
    pid,
    status,
    ...(status === 'STOPPED' ? { exit: exitOf(exitStatus, wire.exited_at) } : {}),
  };
}
