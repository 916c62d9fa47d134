import {
  ExpositionMerger,
  familiesOf,
  parseFamilies,
} from '../../builds/metrics/merge-expositions.ts';
import type { Metrics } from '../../builds/metrics/metrics.ts';
import { askRole } from './role-socket.ts';

const ASK_LIMIT_MS = 3000;

/** The text of this role's metrics, and of the other role's on this host where there is one. */
export class RoleMetrics {
  readonly #metrics: Metrics;
  readonly #other: { readonly role: 'api' | 'executor'; readonly socket: string } | undefined;
  readonly #merger = new ExpositionMerger();

  constructor(
    metrics: Metrics,
    other?: { readonly role: 'api' | 'executor'; readonly socket: string },
  ) {
    this.#metrics = metrics;
    this.#other = other;
  }

  async json(): Promise<string> {
    await this.#metrics.collect();
    return JSON.stringify(await this.#metrics.registry.getMetricsAsJSON());
  }

  async render(): Promise<string> {
    const [, otherAnswers] = await Promise.all([this.#metrics.collect(), this.#askOther()]);
    if (this.#other !== undefined) this.#metrics.setRoleUp(this.#other.role, otherAnswers);
    const own = await familiesOf(this.#metrics.registry);
    return await this.#merger.render(own, { otherAnswers });
  }

  async #askOther(): Promise<boolean> {
    if (this.#other === undefined) return false;
    try {
      const signal = AbortSignal.timeout(ASK_LIMIT_MS);
      const { process, body } = await askRole(this.#other.socket, '/metrics', { signal });
      await this.#merger.update(process, parseFamilies(body));
      return true;
    } catch {
      // Shown as builderd_role_up 0: the other role is being started again, or is stuck.
      return false;
    }
  }
}
