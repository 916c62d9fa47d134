import { BuilderdError } from '../../../core/errors.ts';

/** Counts who follows, so that streams that nobody reads cannot use up a process. */
export class FollowerLimit {
  readonly #perTenant: number;
  readonly #total: number;
  readonly #counts = new Map<string, number>();
  #all = 0;

  constructor({ perTenant, total }: { readonly perTenant: number; readonly total: number }) {
    this.#perTenant = perTenant;
    this.#total = total;
  }

  /** Throws `api.too_many` when there is no place. */
  check(tenantId: string): void {
    const isFull = this.#countOf(tenantId) >= this.#perTenant;
    if (!isFull && this.#all < this.#total) return;
    const limit = isFull ? `${this.#perTenant} for a tenant` : `${this.#total}`;
    throw new BuilderdError('api.too_many', `Cannot follow events: the limit is ${limit} at once`);
  }

  /** Takes a place, or throws like `check`. Disposal gives it back. */
  enter(tenantId: string): Disposable {
    this.check(tenantId);
    this.#counts.set(tenantId, this.#countOf(tenantId) + 1);
    this.#all += 1;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        this.#all -= 1;
        const left = this.#countOf(tenantId) - 1;
        if (left === 0) this.#counts.delete(tenantId);
        else this.#counts.set(tenantId, left);
      },
    };
  }

  #countOf(tenantId: string): number {
    return this.#counts.get(tenantId) ?? 0;
  }
}
