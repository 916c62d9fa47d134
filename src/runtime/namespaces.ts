import { BuilderdError } from '../core/errors.ts';
import type { Protocol } from './protocol.ts';
import type { RpcCall, RpcChannel } from './rpc-channel.ts';
import { hasStatus } from './grpc-fault.ts';

/** containerd's identifier grammar; "version" would shadow a directory of its own. */
export function parseNamespace(text: string): string {
  if (
    /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/.test(text) &&
    text.length <= 76 &&
    text !== 'version'
  ) {
    return text;
  }
  throw new BuilderdError(
    'config.invalid',
    `Cannot use containerd namespace ${JSON.stringify(text.slice(0, 100))}: want letters and digits with single ".", "_" or "-" between, at most 76`,
  );
}

export class Namespaces {
  readonly #rpc: RpcChannel;
  readonly #methods: Protocol['namespaces'];

  constructor(rpc: RpcChannel, methods: Protocol['namespaces']) {
    this.#rpc = rpc;
    this.#methods = methods;
  }

  /** Repeating it is a no-op; labels of a namespace that exists stay. */
  async ensure(
    name: string,
    labels: Readonly<Record<string, string>>,
    call: RpcCall,
  ): Promise<void> {
    const request = { namespace: { name: parseNamespace(name), labels } };
    try {
      await this.#rpc.unary(this.#methods.Create, request, within(name, call), {
        doing: `create namespace ${name}`,
      });
    } catch (reason) {
      if (!hasStatus(reason, 'ALREADY_EXISTS')) throw reason;
    }
  }

  async list(call: RpcCall): Promise<{ name: string; labels: Map<string, string> }[]> {
    const traits = { doing: 'list the namespaces', idempotent: true };
    const { namespaces } = await this.#rpc.unary(this.#methods.List, {}, call, traits);
    return namespaces.map(({ name, labels }) => ({
      name,
      labels: new Map(Object.entries(labels)),
    }));
  }

  /** Throws `runtime.conflict` while it holds anything. A namespace that is gone is a no-op. */
  async delete(name: string, call: RpcCall): Promise<void> {
    try {
      await this.#rpc.unary(this.#methods.Delete, { name }, within(name, call), {
        doing: `delete namespace ${name}`,
      });
    } catch (reason) {
      if (!hasStatus(reason, 'NOT_FOUND')) throw reason;
    }
  }
}

/** The daemon publishes an event of it, and events need a namespace of their own. */
function within(namespace: string, call: RpcCall): RpcCall {
  return { ...call, namespace };
}
