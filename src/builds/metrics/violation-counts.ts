import type { QuotaType } from '../../core/quotas.ts';

interface Series {
  readonly tenant: string;
  readonly quotaType: QuotaType;
  count: number;
  shown: boolean;
}

/**
 * Violations by tenant and quota. A series that began at 1 would be invisible to
 * `increase(builderd_quota_violations_total[5m])`, which needs two samples: each is shown once as 0.
 */
export class ViolationCounts {
  readonly #series = new Map<string, Series>();

  /** Makes the series known at 0. */
  announce(tenant: string, quotaType: QuotaType): void {
    this.#get(tenant, quotaType);
  }

  add(tenant: string, quotaType: QuotaType): void {
    this.#get(tenant, quotaType).count += 1;
  }

  /** What one scrape shows. */
  take(): readonly {
    readonly tenant: string;
    readonly quotaType: QuotaType;
    readonly count: number;
  }[] {
    return Array.from(this.#series.values(), (series) => {
      const count = series.shown ? series.count : 0;
      series.shown = true;
      return { tenant: series.tenant, quotaType: series.quotaType, count };
    });
  }

  #get(tenant: string, quotaType: QuotaType): Series {
    const key = `${quotaType} ${tenant}`;
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { tenant, quotaType, count: 0, shown: false };
      this.#series.set(key, series);
    }
    return series;
  }
}
