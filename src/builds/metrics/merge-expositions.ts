import {
  AggregatorRegistry,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client';
import { BuilderdError } from '../../core/errors.ts';

/** One family as a role hands it over; the type that prom-client has for its own JSON. */
export type Family = MetricObjectWithValues<MetricValue<string>> & { readonly aggregator: string };

const KINDS = ['counter', 'gauge', 'histogram', 'summary'] as const;
const AGGREGATORS = ['sum', 'max', 'min', 'first', 'omit'] as const;
const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$/;
const MAX_FAMILIES = 500;
const MAX_SERIES = 200_000;

/** A role's exposition, from its JSON text. Throws `internal` for anything that is not one. */
export function parseFamilies(text: string): Family[] {
  const parsed: unknown = JSON.parse(text);
  if (!Array.isArray(parsed) || parsed.length > MAX_FAMILIES)
    throw malformed('no list of families');
  let series = 0;
  return parsed.map((each) => {
    const family = parseFamily(each);
    series += family.values.length;
    if (series > MAX_SERIES) throw malformed('too many series');
    return family;
  });
}

function parseFamily(raw: unknown): Family {
  const { name, help, type, values, aggregator } = recordOf(raw);
  const kind = KINDS.find((each) => each === type);
  const merge = AGGREGATORS.find((each) => each === aggregator);
  const named = typeof name === 'string' && NAME.test(name) && typeof help === 'string';
  if (!named || kind === undefined || merge === undefined || !Array.isArray(values)) {
    throw malformed('a family without name, type or values');
  }
  // prom-client types its own kinds as an enum whose members are these words.
  return {
    name,
    help,
    type: kind,
    aggregator: merge,
    values: values.map(parseValue),
  } as unknown as Family;
}

function parseValue(raw: unknown): MetricValue<string> & { readonly metricName?: string } {
  const { value, labels, metricName } = recordOf(raw);
  if (typeof value !== 'number') throw malformed('a sample without a number');
  const shown: Record<string, string | number> = {};
  for (const [label, text] of Object.entries(recordOf(labels))) {
    if (!NAME.test(label) || (typeof text !== 'string' && typeof text !== 'number')) {
      throw malformed('a label that is no text');
    }
    shown[label] = text;
  }
  if (metricName === undefined) return { value, labels: shown };
  if (typeof metricName !== 'string' || !NAME.test(metricName))
    throw malformed('a bad series name');
  return { value, labels: shown, metricName };
}

function recordOf(raw: unknown): Record<string, unknown> {
  if (typeof raw !== 'object' || raw === null) throw malformed('no object where one belongs');
  return Object.fromEntries(Object.entries(raw));
}

function malformed(fact: string): BuilderdError {
  return new BuilderdError('internal', `Cannot read the metrics of the other role: ${fact}`);
}

/**
 * Several roles as one exposition. Counters and histograms add up; gauges as each declares. When
 * `process` names another start of a role, what its predecessor counted is kept: the sum never falls
 * because a role was restarted, so `rate()` sees no false reset.
 */
export class ExpositionMerger {
  #latest: { readonly process: string; readonly families: readonly Family[] } | undefined;
  #retired: Family[] = [];

  /** Takes the other role's newest exposition. */
  async update(process: string, families: readonly Family[]): Promise<void> {
    const before = this.#latest;
    this.#latest = { process, families };
    if (before === undefined || before.process === process) return;
    const ended = before.families.filter(isCumulative);
    this.#retired = await familiesOf(AggregatorRegistry.aggregate([this.#retired, ended]));
  }

  /** The text of all of it. When the other role does not answer, only what it counted stays. */
  async render(
    own: readonly Family[],
    { otherAnswers }: { readonly otherAnswers: boolean },
  ): Promise<string> {
    const latest = this.#latest?.families ?? [];
    const other = otherAnswers ? latest : latest.filter(isCumulative);
    return await AggregatorRegistry.aggregate([[...own], [...other], this.#retired]).metrics();
  }
}

export const EXPOSITION_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** A registry's families, in the form that the merger takes. */
export async function familiesOf(registry: Registry): Promise<Family[]> {
  return parseFamilies(JSON.stringify(await registry.getMetricsAsJSON()));
}

function isCumulative({ type }: Family): boolean {
  const word: string = String(type);
  return word === 'counter' || word === 'histogram';
}
