import type { Protocol } from './protocol.ts';
import type { RpcCall, RpcChannel } from './rpc-channel.ts';

/** One plugin of the daemon, as it describes itself. */
export interface RuntimePlugin {
  readonly type: string;
  readonly id: string;
  readonly exports: ReadonlyMap<string, string>;
  readonly capabilities: readonly string[];
  /** Why it does not work; absent when it does. */
  readonly fault?: string;
}

export interface RuntimeVersion {
  readonly version: string;
  readonly revision: string;
}

/** What a daemon can do, from what it says about its plugins; never from its version. */
export interface RuntimeFeatures extends RuntimeVersion {
  /** Made anew when the daemon's state is wiped. */
  readonly serverId: string;
  readonly snapshotters: readonly RuntimePlugin[];
  readonly differs: readonly string[];
  /** Directory of the content store in the daemon's mount namespace, if it says so. */
  readonly contentRoot?: string;
  /** Transfer service, since 1.7. */
  readonly transfer: boolean;
  /** Mount manager, since 2.2. */
  readonly mountManager: boolean;
}

export class RuntimeProbe {
  readonly #rpc: RpcChannel;
  readonly #methods: Pick<Protocol, 'version' | 'introspection'>;

  constructor(rpc: RpcChannel, methods: Pick<Protocol, 'version' | 'introspection'>) {
    this.#rpc = rpc;
    this.#methods = methods;
  }

  async version(call: RpcCall): Promise<RuntimeVersion> {
    const traits = { doing: "ask containerd's version", idempotent: true };
    const { version, revision } = await this.#rpc.unary(
      this.#methods.version.Version,
      {},
      call,
      traits,
    );
    return { version, revision };
  }

  /** All plugins, or those that match one of the filters such as `type==io.containerd.content.v1`. */
  async plugins(filters: readonly string[], call: RpcCall): Promise<RuntimePlugin[]> {
    const traits = { doing: "list containerd's plugins", idempotent: true };
    const request = { filters: [...filters] };
    const { plugins } = await this.#rpc.unary(
      this.#methods.introspection.Plugins,
      request,
      call,
      traits,
    );
    return plugins.map(({ type, id, exports, capabilities, init_err: fault }) => ({
      type,
      id,
      exports: new Map(Object.entries(exports)),
      capabilities,
      ...(fault !== null && fault.code !== 0 ? { fault: fault.message } : {}),
    }));
  }

  async contentRoot(call: RpcCall): Promise<string | undefined> {
    return contentRootOf(await this.plugins(['type==io.containerd.content.v1'], call));
  }

  async features(call: RpcCall): Promise<RuntimeFeatures> {
    const version = await this.version(call);
    const traits = { doing: 'ask containerd who it is', idempotent: true };
    const server = await this.#rpc.unary(this.#methods.introspection.Server, {}, call, traits);
    const plugins = await this.plugins([], call);
    const working = (type: string): RuntimePlugin[] =>
      plugins.filter((plugin) => plugin.type === type && plugin.fault === undefined);
    const contentRoot = contentRootOf(plugins);
    return {
      ...version,
      serverId: server.uuid,
      snapshotters: plugins.filter(({ type }) => type === 'io.containerd.snapshotter.v1'),
      differs: working('io.containerd.differ.v1').map(({ id }) => id),
      transfer: working('io.containerd.transfer.v1').length > 0,
      mountManager: working('io.containerd.mount-manager.v1').length > 0,
      ...(contentRoot === undefined ? {} : { contentRoot }),
    };
  }
}

function contentRootOf(plugins: readonly RuntimePlugin[]): string | undefined {
  return plugins
    .find(({ type, fault }) => type === 'io.containerd.content.v1' && fault === undefined)
    ?.exports.get('root');
}
