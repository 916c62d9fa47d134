import type { Digest } from '../core/digest.ts';
import { parseDigest } from '../core/digest.ts';
import { BuilderdError } from '../core/errors.ts';
import { hasStatus } from './grpc-fault.ts';
import type { Info__Output } from './generated/containerd/services/content/v1/Info.ts';
import type { Protocol } from './protocol.ts';
import type { NamespacedCall, RpcChannel } from './rpc-channel.ts';
import { ContentWriter, type OpenIngest } from './content-writer.ts';
import { parseWireSize, required } from './wire-values.ts';

export interface ContentInfo {
  readonly digest: Digest;
  readonly size: number;
  readonly labels: ReadonlyMap<string, string>;
}

/** A write that was begun and neither committed nor aborted. */
export interface Ingest {
  readonly ref: string;
  readonly offset: number;
  readonly total: number;
}

/** A stream that says nothing for so long is dead. The daemon may be flushing a slow disk. */
const READ_IDLE_MS = 60_000;

export class Content {
  readonly #rpc: RpcChannel;
  readonly #bulk: RpcChannel;
  readonly #methods: Protocol['content'];

  constructor(rpc: RpcChannel, bulk: RpcChannel, methods: Protocol['content']) {
    this.#rpc = rpc;
    this.#bulk = bulk;
    this.#methods = methods;
  }

  async info(digest: Digest, call: NamespacedCall): Promise<ContentInfo | undefined> {
    const traits = { doing: `look up blob ${digest}`, idempotent: true };
    try {
      const { info } = await this.#rpc.unary(this.#methods.Info, { digest }, call, traits);
      return parseInfo(required(info, 'the blob'));
    } catch (reason) {
      if (hasStatus(reason, 'NOT_FOUND')) return undefined;
      throw reason;
    }
  }

  async *list(
    filters: readonly string[],
    call: NamespacedCall,
  ): AsyncGenerator<ContentInfo, void, void> {
    const traits = { doing: 'list the blobs', idleMs: READ_IDLE_MS };
    const request = { filters: [...filters] };
    for await (const { info } of this.#rpc.serverStream(
      this.#methods.List,
      request,
      call,
      traits,
    )) {
      yield* info.map(parseInfo);
    }
  }

  /** Adds or replaces the named labels; an empty value removes one. The others stay. */
  async setLabels(
    digest: Digest,
    labels: Readonly<Record<string, string>>,
    call: NamespacedCall,
  ): Promise<void> {
    const paths = Object.keys(labels).map((name) => `labels.${name}`);
    if (paths.length === 0) return;
    const request = { info: { digest, labels }, update_mask: { paths } };
    const traits = { doing: `label blob ${digest}`, idempotent: true };
    await this.#rpc.unary(this.#methods.Update, request, call, traits);
  }

  /** A blob that is gone is a no-op. */
  async delete(digest: Digest, call: NamespacedCall): Promise<void> {
    const traits = { doing: `delete blob ${digest}`, idempotent: true };
    try {
      await this.#rpc.unary(this.#methods.Delete, { digest }, call, traits);
    } catch (reason) {
      if (!hasStatus(reason, 'NOT_FOUND')) throw reason;
    }
  }

  /** Bytes from `offset`, `lengthBytes` of them or all. Unverified. Over the bulk channel. */
  async *read(
    digest: Digest,
    range: { readonly offset: number; readonly lengthBytes?: number },
    call: NamespacedCall,
  ): AsyncGenerator<Buffer, void, void> {
    const traits = { doing: `read blob ${digest}`, idleMs: READ_IDLE_MS };
    const request = { digest, offset: range.offset, size: range.lengthBytes ?? 0 };
    // The offsets in the replies count from the range's begin (seen on 1.6, 1.7 and 2.1).
    let position = 0;
    for await (const { offset, data } of this.#bulk.serverStream(
      this.#methods.Read,
      request,
      call,
      traits,
    )) {
      if (Number(offset) !== position) {
        throw new BuilderdError(
          'runtime.failed',
          `Cannot read blob ${digest}: got offset ${offset}, want ${position}`,
        );
      }
      position += data.length;
      yield data;
    }
  }

  /** Throws `runtime.conflict` for a blob that exists and (see `isLocked`) for a busy reference. */
  openWriter(
    target: { readonly ref: string; readonly digest: Digest; readonly size: number },
    call: NamespacedCall,
  ): Promise<OpenIngest> {
    return ContentWriter.open(this.#bulk, this.#methods.Write, target, call);
  }

  async ingests(call: NamespacedCall): Promise<Ingest[]> {
    const traits = { doing: 'list the ingests', idempotent: true };
    const { statuses } = await this.#rpc.unary(this.#methods.ListStatuses, {}, call, traits);
    return statuses.map(({ ref, offset, total }) => ({
      ref,
      offset: parseWireSize(offset, `offset of ${ref}`),
      total: parseWireSize(total, `total of ${ref}`),
    }));
  }

  /** Throws an ingest away. One that is gone is a no-op. */
  async abort(ref: string, call: NamespacedCall): Promise<void> {
    const traits = { doing: `abort ingest ${ref}`, idempotent: true };
    try {
      await this.#rpc.unary(this.#methods.Abort, { ref }, call, traits);
    } catch (reason) {
      if (!hasStatus(reason, 'NOT_FOUND')) throw reason;
    }
  }
}

function parseInfo(wire: Info__Output): ContentInfo {
  return {
    digest: parseDigest(wire.digest, 'blob'),
    size: parseWireSize(wire.size, `size of ${wire.digest}`),
    labels: new Map(Object.entries(wire.labels)),
  };
}
