import { BuilderdError } from '../core/errors.ts';
import type { ImageRecord } from './blob-store.ts';
import { hasStatus } from './grpc-fault.ts';
import type { Protocol } from './protocol.ts';
import type { NamespacedCall, RpcChannel } from './rpc-channel.ts';
import { parseWireDescriptor, parseWireTime, required } from './wire-values.ts';
import type { Image, Image__Output } from './generated/containerd/services/images/v1/Image.ts';

/** Create and Update race with other clients' Delete and Create; each round needs another racer. */
const PUT_ROUNDS = 4;
/** An update needs something to update; the time of it is what counts. */
const USED_LABEL = 'io.builderd/used';

export class Images {
  readonly #rpc: RpcChannel;
  readonly #methods: Protocol['images'];

  constructor(rpc: RpcChannel, methods: Protocol['images']) {
    this.#rpc = rpc;
    this.#methods = methods;
  }

  async get(name: string, call: NamespacedCall): Promise<ImageRecord | undefined> {
    const traits = { doing: `read image record ${name}`, idempotent: true };
    try {
      const { image } = await this.#rpc.unary(this.#methods.Get, { name }, call, traits);
      return parseImage(required(image, 'the image'));
    } catch (reason) {
      if (hasStatus(reason, 'NOT_FOUND')) return undefined;
      throw reason;
    }
  }

  async list(filters: readonly string[], call: NamespacedCall): Promise<ImageRecord[]> {
    const traits = { doing: 'list the image records', idempotent: true };
    const request = { filters: [...filters] };
    const { images } = await this.#rpc.unary(this.#methods.List, request, call, traits);
    return images.map(parseImage);
  }

  /** Creates or replaces. Labels of a record that exists stay. */
  async put(record: ImageRecord, call: NamespacedCall): Promise<void> {
    const { mediaType, digest, size } = record.target;
    const target = { media_type: mediaType, digest, size };
    const image: Image = { name: record.name, target };
    const doing = `write image record ${record.name}`;
    for (let round = 0; round < PUT_ROUNDS; round++) {
      try {
        await this.#rpc.unary(this.#methods.Create, { image }, call, { doing });
        return;
      } catch (reason) {
        if (!hasStatus(reason, 'ALREADY_EXISTS')) throw reason;
      }
      try {
        const request = { image, update_mask: { paths: ['target'] } };
        await this.#rpc.unary(this.#methods.Update, request, call, { doing, idempotent: true });
        return;
      } catch (reason) {
        if (!hasStatus(reason, 'NOT_FOUND')) throw reason;
      }
    }
    throw new BuilderdError('runtime.conflict', `Cannot ${doing}: it comes and goes meanwhile`);
  }

  /** Says that the image is in use now: what is not used any more can then be told from the rest. */
  async touch(name: string, call: NamespacedCall): Promise<void> {
    const traits = { doing: `touch image record ${name}`, idempotent: true };
    const image: Image = { name, labels: { [USED_LABEL]: '1' } };
    const request = { image, update_mask: { paths: [`labels.${USED_LABEL}`] } };
    try {
      await this.#rpc.unary(this.#methods.Update, request, call, traits);
    } catch (reason) {
      if (!hasStatus(reason, 'NOT_FOUND')) throw reason;
    }
  }

  /** When each record was last written or touched, by the daemon's clock. */
  async listUse(call: NamespacedCall): Promise<{ name: string; usedAt: Date | undefined }[]> {
    const traits = { doing: 'list the image records', idempotent: true };
    const { images } = await this.#rpc.unary(this.#methods.List, { filters: [] }, call, traits);
    return images.map(({ name, updated_at }) => ({ name, usedAt: parseWireTime(updated_at) }));
  }

  /** `sync` waits for the garbage collection. A record that is gone is a no-op. */
  async delete(
    name: string,
    options: { readonly sync: boolean },
    call: NamespacedCall,
  ): Promise<void> {
    const traits = { doing: `delete image record ${name}`, idempotent: true };
    try {
      await this.#rpc.unary(this.#methods.Delete, { name, sync: options.sync }, call, traits);
    } catch (reason) {
      if (!hasStatus(reason, 'NOT_FOUND')) throw reason;
    }
  }
}

function parseImage(wire: Image__Output): ImageRecord {
  return { name: wire.name, target: parseWireDescriptor(wire.target, `image ${wire.name}`) };
}
