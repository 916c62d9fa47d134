import { anyOfJson, RUNTIME_SPEC_URL } from './any.ts';
import type { Container__Output } from './generated/containerd/services/containers/v1/Container.ts';
import { hasStatus } from './grpc-fault.ts';
import type { Protocol } from './protocol.ts';
import type { NamespacedCall, RpcChannel } from './rpc-channel.ts';
import { required } from './wire-values.ts';

export interface RuncOptions {
  /** Where runc keeps its state; default a directory under /run/containerd/runc. */
  readonly root?: string;
  /** A cgroup for the shim, so that its work is not charged to containerd. */
  readonly shimCgroup?: string;
  readonly systemdCgroup?: boolean;
}

export const RUNC_RUNTIME = 'io.containerd.runc.v2';
const RUNC_OPTIONS_URL = 'containerd.runc.v1.Options';

export interface NewContainer {
  readonly id: string;
  /** An OCI runtime spec; `root.path` is absolute or relative to the bundle. */
  readonly spec: object;
  /** For io.containerd.runc.v2, the runtime of every container of ours. */
  readonly runc?: RuncOptions;
  readonly labels: Readonly<Record<string, string>>;
}

export interface ContainerRecord {
  readonly id: string;
  readonly runtime: string;
  readonly labels: ReadonlyMap<string, string>;
}

const LIST_IDLE_MS = 30_000;

/** Records only: nothing runs until Tasks.create. */
export class Containers {
  readonly #rpc: RpcChannel;
  readonly #methods: Protocol['containers'];
  readonly #messages: Protocol['messages'];

  constructor(rpc: RpcChannel, methods: Protocol['containers'], messages: Protocol['messages']) {
    this.#rpc = rpc;
    this.#methods = methods;
    this.#messages = messages;
  }

  /** Throws `runtime.conflict` if the id exists. */
  async create(container: NewContainer, call: NamespacedCall): Promise<void> {
    const { id, labels, runc, spec } = container;
    const options = this.#messages.runcOptions.serialize({
      root: runc?.root ?? '',
      shim_cgroup: runc?.shimCgroup ?? '',
      systemd_cgroup: runc?.systemdCgroup ?? false,
    });
    const request = {
      container: {
        id,
        labels,
        runtime: { name: RUNC_RUNTIME, options: { type_url: RUNC_OPTIONS_URL, value: options } },
        spec: anyOfJson(RUNTIME_SPEC_URL, spec),
      },
    };
    await this.#rpc.unary(this.#methods.Create, request, call, {
      doing: `create container ${id}`,
    });
  }

  async get(id: string, call: NamespacedCall): Promise<ContainerRecord | undefined> {
    const traits = { doing: `look up container ${id}`, idempotent: true };
    try {
      const { container } = await this.#rpc.unary(this.#methods.Get, { id }, call, traits);
      return parseContainer(required(container, 'the container'));
    } catch (reason) {
      if (hasStatus(reason, 'NOT_FOUND')) return undefined;
      throw reason;
    }
  }

  /** One message each: the unary List can pass the message limit on a busy node. */
  async *list(
    filters: readonly string[],
    call: NamespacedCall,
  ): AsyncGenerator<ContainerRecord, void, void> {
    const traits = { doing: 'list the containers', idleMs: LIST_IDLE_MS };
    const request = { filters: [...filters] };
    for await (const { container } of this.#rpc.serverStream(
      this.#methods.ListStream,
      request,
      call,
      traits,
    )) {
      yield parseContainer(required(container, 'the container'));
    }
  }

  /** A container that is gone is a no-op. Its task must be deleted before. */
  async delete(id: string, call: NamespacedCall): Promise<void> {
    const traits = { doing: `delete container ${id}`, idempotent: true };
    try {
      await this.#rpc.unary(this.#methods.Delete, { id }, call, traits);
    } catch (reason) {
      if (!hasStatus(reason, 'NOT_FOUND')) throw reason;
    }
  }
}

function parseContainer({ id, runtime, labels }: Container__Output): ContainerRecord {
  return { id, runtime: runtime?.name ?? '', labels: new Map(Object.entries(labels)) };
}
