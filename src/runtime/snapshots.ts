import type { Info__Output } from './generated/containerd/services/snapshots/v1/Info.ts';
import type { Mount__Output } from './generated/containerd/types/Mount.ts';
import { hasStatus } from './grpc-fault.ts';
import type { Protocol } from './protocol.ts';
import type { NamespacedCall, RpcChannel } from './rpc-channel.ts';
import { parseWireSize, required } from './wire-values.ts';

/** A mount as a snapshotter describes it; `target` is relative to the root, since 1.7. */
export interface SnapshotMount {
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly options: readonly string[];
}

export type SnapshotKind = 'VIEW' | 'ACTIVE' | 'COMMITTED' | 'UNKNOWN';

export interface SnapshotInfo {
  readonly name: string;
  /** Absent for a base. */
  readonly parent?: string;
  readonly kind: SnapshotKind;
  readonly labels: ReadonlyMap<string, string>;
}

export interface NewSnapshot {
  readonly key: string;
  /** Absent for a base. */
  readonly parent?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A snapshotter may be busy collecting garbage for many seconds (containerd issue 11021). */
const SNAPSHOT_LIMIT_MS = 120_000;

export class Snapshots {
  readonly #rpc: RpcChannel;
  readonly #methods: Protocol['snapshots'];

  constructor(rpc: RpcChannel, methods: Protocol['snapshots']) {
    this.#rpc = rpc;
    this.#methods = methods;
  }

  /** A writable snapshot. Throws `runtime.conflict` if the key exists. */
  async prepare(
    snapshotter: string,
    snapshot: NewSnapshot,
    call: NamespacedCall,
  ): Promise<SnapshotMount[]> {
    const request = newSnapshotRequest(snapshotter, snapshot);
    const traits = { doing: `prepare snapshot ${snapshot.key}` };
    const { mounts } = await this.#rpc.unary(this.#methods.Prepare, request, patient(call), traits);
    return mounts.map(parseMount);
  }

  /** A read-only snapshot of a committed parent. Throws `runtime.conflict` if the key exists. */
  async view(
    snapshotter: string,
    snapshot: NewSnapshot,
    call: NamespacedCall,
  ): Promise<SnapshotMount[]> {
    const request = newSnapshotRequest(snapshotter, snapshot);
    const traits = { doing: `view snapshot ${snapshot.parent ?? ''}` };
    const { mounts } = await this.#rpc.unary(this.#methods.View, request, patient(call), traits);
    return mounts.map(parseMount);
  }

  /** The mounts of an active snapshot or a view, once more. */
  async mounts(snapshotter: string, key: string, call: NamespacedCall): Promise<SnapshotMount[]> {
    const traits = { doing: `read the mounts of snapshot ${key}`, idempotent: true };
    const { mounts } = await this.#rpc.unary(
      this.#methods.Mounts,
      { snapshotter, key },
      call,
      traits,
    );
    return mounts.map(parseMount);
  }

  /** Turns the active snapshot `key` into the committed `name`. Throws `runtime.conflict` if that exists. */
  async commit(
    snapshotter: string,
    snapshot: {
      readonly key: string;
      readonly name: string;
      readonly labels?: Readonly<Record<string, string>>;
    },
    call: NamespacedCall,
  ): Promise<void> {
    const { key, name, labels } = snapshot;
    const request = { snapshotter, key, name, labels: { ...labels } };
    const traits = { doing: `commit snapshot ${key} as ${name}` };
    await this.#rpc.unary(this.#methods.Commit, request, patient(call), traits);
  }

  /** Throws `runtime.conflict` while it has children. A snapshot that is gone is a no-op. */
  async remove(snapshotter: string, key: string, call: NamespacedCall): Promise<void> {
    const traits = { doing: `remove snapshot ${key}`, idempotent: true };
    try {
      await this.#rpc.unary(this.#methods.Remove, { snapshotter, key }, patient(call), traits);
    } catch (reason) {
      if (!hasStatus(reason, 'NOT_FOUND')) throw reason;
    }
  }

  async stat(
    snapshotter: string,
    key: string,
    call: NamespacedCall,
  ): Promise<SnapshotInfo | undefined> {
    const traits = { doing: `look up snapshot ${key}`, idempotent: true };
    try {
      const { info } = await this.#rpc.unary(
        this.#methods.Stat,
        { snapshotter, key },
        call,
        traits,
      );
      return parseInfo(required(info, 'the snapshot'));
    } catch (reason) {
      if (hasStatus(reason, 'NOT_FOUND')) return undefined;
      throw reason;
    }
  }

  async *list(
    snapshotter: string,
    filters: readonly string[],
    call: NamespacedCall,
  ): AsyncGenerator<SnapshotInfo, void, void> {
    const traits = { doing: `list the snapshots of ${snapshotter}`, idleMs: SNAPSHOT_LIMIT_MS };
    const request = { snapshotter, filters: [...filters] };
    for await (const { info } of this.#rpc.serverStream(
      this.#methods.List,
      request,
      call,
      traits,
    )) {
      yield* info.map(parseInfo);
    }
  }

  /** Disk space of the snapshot alone, without its parents. */
  async usage(
    snapshotter: string,
    key: string,
    call: NamespacedCall,
  ): Promise<{ sizeBytes: number; inodes: number }> {
    const traits = { doing: `measure snapshot ${key}`, idempotent: true };
    const { size, inodes } = await this.#rpc.unary(
      this.#methods.Usage,
      { snapshotter, key },
      patient(call),
      traits,
    );
    return { sizeBytes: parseWireSize(size, 'size'), inodes: parseWireSize(inodes, 'inodes') };
  }
}

function newSnapshotRequest(
  snapshotter: string,
  { key, parent, labels }: NewSnapshot,
): { snapshotter: string; key: string; parent: string; labels: Record<string, string> } {
  return { snapshotter, key, parent: parent ?? '', labels: { ...labels } };
}

function patient(call: NamespacedCall): NamespacedCall {
  return { timeoutMs: SNAPSHOT_LIMIT_MS, ...call };
}

function parseMount({ type, source, target, options }: Mount__Output): SnapshotMount {
  return { type, source, target, options };
}

function parseInfo({ name, parent, kind, labels }: Info__Output): SnapshotInfo {
  return {
    name,
    kind,
    labels: new Map(Object.entries(labels)),
    ...(parent === '' ? {} : { parent }),
  };
}
