import type { Descriptor } from '../core/oci.ts';
import type { Protocol } from './protocol.ts';
import type { NamespacedCall, RpcChannel } from './rpc-channel.ts';
import type { SnapshotMount } from './snapshots.ts';
import { parseWireDescriptor } from './wire-values.ts';

/** Both walk or unpack whole file trees inside the daemon. */
const DIFF_LIMIT_MS = 30 * 60_000;

export class Diffs {
  readonly #rpc: RpcChannel;
  readonly #methods: Protocol['diff'];

  constructor(rpc: RpcChannel, methods: Protocol['diff']) {
    this.#rpc = rpc;
    this.#methods = methods;
  }

  /**
   * Unpacks a layer blob onto mounts and returns the uncompressed tar's descriptor, whose digest
   * the caller compares with the diff ID. `sync_fs` is asked for; containerd before 1.7.14 does
   * not know it.
   */
  async apply(
    layer: Descriptor,
    mounts: readonly SnapshotMount[],
    call: NamespacedCall,
  ): Promise<Descriptor> {
    const { mediaType, digest, size } = layer;
    const request = {
      diff: { media_type: mediaType, digest, size },
      mounts: mounts.map(wireMount),
      sync_fs: true,
    };
    const traits = { doing: `unpack layer ${digest}` };
    const { applied } = await this.#rpc.unary(
      this.#methods.Apply,
      request,
      { timeoutMs: DIFF_LIMIT_MS, ...call },
      traits,
    );
    return parseWireDescriptor(applied, 'the applied layer');
  }

  /**
   * Stores what `right` has beyond `left` as a blob under the lease. It keeps no xattr but file
   * capabilities and expands sparse files (architecture D6 says what we use instead).
   */
  async diff(
    left: readonly SnapshotMount[],
    right: readonly SnapshotMount[],
    options: { readonly mediaType: string; readonly ref: string },
    call: NamespacedCall,
  ): Promise<Descriptor> {
    const request = {
      left: left.map(wireMount),
      right: right.map(wireMount),
      media_type: options.mediaType,
      ref: options.ref,
    };
    const traits = { doing: `store the difference ${options.ref}` };
    const { diff } = await this.#rpc.unary(
      this.#methods.Diff,
      request,
      { timeoutMs: DIFF_LIMIT_MS, ...call },
      traits,
    );
    return parseWireDescriptor(diff, 'the difference');
  }
}

export function wireMount({ type, source, target, options }: SnapshotMount): {
  type: string;
  source: string;
  target: string;
  options: string[];
} {
  return { type, source, target, options: [...options] };
}
