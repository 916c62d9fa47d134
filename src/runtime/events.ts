import type { Any__Output } from './generated/google/protobuf/Any.ts';
import type { Protocol } from './protocol.ts';
import type { RpcCall, RpcChannel } from './rpc-channel.ts';

export type RuntimeEvent = { readonly namespace: string; readonly topic: string } & (
  | {
      readonly kind: 'task-exit';
      readonly containerId: string;
      /** The container's id for its first process, else the id of an exec. */
      readonly processId: string;
      readonly exitStatus: number;
    }
  | { readonly kind: 'task-oom'; readonly containerId: string }
  | { readonly kind: 'other'; readonly typeUrl: string }
);

/**
 * Events can be lost, doubled and out of order (containerd issues 6771, 4769): they say that it is
 * time to look, never what is true.
 */
export class Events {
  readonly #rpc: RpcChannel;
  readonly #methods: Protocol['events'];
  readonly #messages: Protocol['messages'];

  constructor(rpc: RpcChannel, methods: Protocol['events'], messages: Protocol['messages']) {
    this.#rpc = rpc;
    this.#methods = methods;
    this.#messages = messages;
  }

  /** Endless; filters such as `namespace==x,topic=="/tasks/exit"`. All namespaces unless filtered. */
  async *subscribe(
    filters: readonly string[],
    call: RpcCall,
  ): AsyncGenerator<RuntimeEvent, void, void> {
    const traits = { doing: "listen to containerd's events" };
    const request = { filters: [...filters] };
    for await (const { namespace, topic, event } of this.#rpc.serverStream(
      this.#methods.Subscribe,
      request,
      call,
      traits,
    )) {
      yield { namespace, topic, ...this.#parse(event) };
    }
  }

  #parse(
    event: Any__Output | null,
  ):
    | { kind: 'task-exit'; containerId: string; processId: string; exitStatus: number }
    | { kind: 'task-oom'; containerId: string }
    | { kind: 'other'; typeUrl: string } {
    const { type_url: typeUrl, value } = event ?? { type_url: '', value: Buffer.alloc(0) };
    switch (typeUrl) {
      case 'containerd.events.TaskExit': {
        const exit = this.#messages.taskExit.deserialize(value);
        const { container_id: containerId, id: processId, exit_status: exitStatus } = exit;
        return { kind: 'task-exit', containerId, processId, exitStatus };
      }
      case 'containerd.events.TaskOOM': {
        const { container_id: containerId } = this.#messages.taskOom.deserialize(value);
        return { kind: 'task-oom', containerId };
      }
      default:
        return { kind: 'other', typeUrl };
    }
  }
}
