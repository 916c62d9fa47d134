import { BuilderdError } from '../../core/errors.ts';

/**
 * Counts the streams of the process (logs, events, downloads), so that slow readers cannot take all
 * its memory, sockets and connections to the store; and no tenant the places of all others.
 */
export class StreamPlaces {
  readonly #most: { readonly process: number; readonly tenant: number };
  readonly #byTenant = new Map<string, number>();
  #open = 0;

  constructor(most: { readonly process: number; readonly tenant: number }) {
    this.#most = most;
  }

  /** Throws `api.too_many`. Disposing twice counts once. */
  open(tenantId: string): Disposable {
    const held = this.#byTenant.get(tenantId) ?? 0;
    if (held >= this.#most.tenant) throw tooMany(`the tenant has ${held} streams open`);
    if (this.#open >= this.#most.process) {
      throw tooMany(`this process already serves ${this.#open} streams`);
    }
    this.#count(tenantId, 1);
    let isOpen = true;
    return {
      [Symbol.dispose]: () => {
        if (isOpen) this.#count(tenantId, -1);
        isOpen = false;
      },
    };
  }

  #count(tenantId: string, change: 1 | -1): void {
    this.#open += change;
    const left = (this.#byTenant.get(tenantId) ?? 0) + change;
    if (left === 0) this.#byTenant.delete(tenantId);
    else this.#byTenant.set(tenantId, left);
  }
}

function tooMany(fact: string): BuilderdError {
  return new BuilderdError('api.too_many', `Cannot send: ${fact}`);
}
