/** What stands for every value beyond the cap. */
export const OTHER = 'other';

/** At most `cap` different label values, first come first kept; a scrape must stay small. */
export class CappedLabels {
  readonly #known = new Set<string>();
  readonly #cap: number;

  constructor(cap: number) {
    this.#cap = cap;
  }

  label(value: string): string {
    if (this.#known.has(value)) return value;
    if (this.#known.size >= this.#cap) return OTHER;
    this.#known.add(value);
    return value;
  }
}

/** Registries that anyone may see in a metric: their names tell nothing about a tenant. */
const PUBLIC_REGISTRIES = [
  'docker.io',
  'ghcr.io',
  'quay.io',
  'gcr.io',
  'registry.k8s.io',
  'public.ecr.aws',
  'mcr.microsoft.com',
  'registry.gitlab.com',
] as const;

/** Public registries and those that the operator's settings name; a tenant cannot add one. */
export class RegistryLabels {
  readonly #known: ReadonlySet<string>;

  constructor(configured: readonly string[]) {
    this.#known = new Set([...PUBLIC_REGISTRIES, ...configured.filter((name) => name !== '*')]);
  }

  get all(): readonly string[] {
    return [...this.#known, OTHER];
  }

  label(registry: string): string {
    return this.#known.has(registry) ? registry : OTHER;
  }
}
