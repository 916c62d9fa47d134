import { randomUUID } from 'node:crypto';
import { detachedSignal } from '../core/scope.ts';
import { hasStatus } from './grpc-fault.ts';
import type { Protocol } from './protocol.ts';
import type { NamespacedCall, RpcChannel } from './rpc-channel.ts';

export const EXPIRE_LABEL = 'containerd.io/gc.expire';
/** Who holds the lease: see lease-owner.ts. */
export const OWNER_LABEL = 'io.builderd/owner';
/** What the lease is for, in words of its holder. */
export const PURPOSE_LABEL = 'io.builderd/purpose';

const CLEANUP_LIMIT_MS = 5_000;

export interface Lease {
  readonly id: string;
  readonly labels: ReadonlyMap<string, string>;
}

export interface LeaseResource {
  /** `content`, `ingests`, `snapshots/<snapshotter>`; `images` since 2.0. */
  readonly type: string;
  readonly id: string;
}

export class Leases {
  readonly #rpc: RpcChannel;
  readonly #methods: Protocol['leases'];

  constructor(rpc: RpcChannel, methods: Protocol['leases']) {
    this.#rpc = rpc;
    this.#methods = methods;
  }

  /**
   * A lease always has an expiry and an owner, so that a crash cannot pin garbage for ever. It
   * cannot be prolonged: containerd has no call for it. The owner deletes it when done.
   */
  async create(
    options: { readonly owner: string; readonly ttlMs: number; readonly purpose?: string },
    call: NamespacedCall,
  ): Promise<Lease> {
    const id = `builderd-${randomUUID()}`;
    // RFC 3339 in whole seconds.
    const expires = new Date(Date.now() + options.ttlMs).toISOString().replace(/\.\d+Z$/, 'Z');
    const labels = {
      [EXPIRE_LABEL]: expires,
      [OWNER_LABEL]: options.owner,
      ...(options.purpose === undefined ? {} : { [PURPOSE_LABEL]: options.purpose }),
    };
    try {
      const traits = { doing: 'create a lease' };
      await this.#rpc.unary(this.#methods.Create, { id, labels }, call, traits);
    } catch (reason) {
      // It may be there although we did not hear of it. If not even this goes, its expiry ends it.
      const cleanup = {
        ...call,
        signal: detachedSignal(CLEANUP_LIMIT_MS),
        retry: 'never',
      } as const;
      await this.delete(id, { sync: false }, cleanup).catch(() => undefined);
      throw reason;
    }
    return { id, labels: new Map(Object.entries(labels)) };
  }

  /** `sync` waits for the garbage collection; it may take seconds. A lease that is gone is a no-op. */
  async delete(
    id: string,
    options: { readonly sync: boolean },
    call: NamespacedCall,
  ): Promise<void> {
    const traits = { doing: `delete lease ${id}`, idempotent: true };
    try {
      await this.#rpc.unary(this.#methods.Delete, { id, sync: options.sync }, call, traits);
    } catch (reason) {
      if (!hasStatus(reason, 'NOT_FOUND')) throw reason;
    }
  }

  async list(filters: readonly string[], call: NamespacedCall): Promise<Lease[]> {
    const traits = { doing: 'list the leases', idempotent: true };
    const request = { filters: [...filters] };
    const { leases } = await this.#rpc.unary(this.#methods.List, request, call, traits);
    return leases.map(({ id, labels }) => ({ id, labels: new Map(Object.entries(labels)) }));
  }

  async addResource(id: string, resource: LeaseResource, call: NamespacedCall): Promise<void> {
    const traits = { doing: `add ${resource.type} ${resource.id} to a lease`, idempotent: true };
    await this.#rpc.unary(this.#methods.AddResource, { id, resource }, call, traits);
  }

  async resources(id: string, call: NamespacedCall): Promise<LeaseResource[]> {
    const traits = { doing: `list what lease ${id} holds`, idempotent: true };
    const { resources } = await this.#rpc.unary(this.#methods.ListResources, { id }, call, traits);
    return resources.map(({ type, id }) => ({ type, id }));
  }
}
