import type { Protocol } from './protocol.ts';
import type { RpcCall, RpcChannel } from './rpc-channel.ts';

export interface RuntimeEvent {
  readonly namespace: string;
  /** Such as `/tasks/exit`. */
  readonly topic: string;
  /** A message name of proto/containerd/task-events.proto, among others. */
  readonly typeUrl: string;
  readonly payload: Buffer;
}

/**
 * Events can be lost, doubled and out of order (containerd issues 6771, 4769): they say that it is
 * time to look, never what is true.
 */
export class Events {
  readonly #rpc: RpcChannel;
  readonly #methods: Protocol['events'];

  constructor(rpc: RpcChannel, methods: Protocol['events']) {
    this.#rpc = rpc;
    this.#methods = methods;
  }

  /** Endless; filters such as `topic~="/tasks/"`. Namespaces are not separated: filter for yours. */
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
      const { typeUrl, payload } = parseAny(event);
      yield { namespace, topic, typeUrl, payload };
    }
  }
}

function parseAny(event: unknown): { typeUrl: string; payload: Buffer } {
  if (event === null || typeof event !== 'object') return { typeUrl: '', payload: Buffer.alloc(0) };
  const typeUrl = 'type_url' in event && typeof event.type_url === 'string' ? event.type_url : '';
  const payload = 'value' in event && Buffer.isBuffer(event.value) ? event.value : Buffer.alloc(0);
  return { typeUrl, payload };
}
