import { type Attributes, type HrTime, ValueType } from '@opentelemetry/api';
import type { Resource } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  type DataPoint,
  DataPointType,
  type Histogram,
  type MetricData,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import type { Family } from '../../builds/metrics/merge-expositions.ts';
import { builderdVersion } from '../version.ts';

interface Times {
  readonly startedAt: Date;
  readonly at: Date;
}

/** The same families that Prometheus sees, as OTLP data: one set of names, two ways out. */
export function otlpMetrics(
  families: readonly Family[],
  { resource, startedAt, at }: Times & { readonly resource: Resource },
): ResourceMetrics {
  const metrics = families
    .filter(({ values }) => values.length > 0)
    .map((family) => metricData(family, { startedAt, at }));
  return {
    resource,
    scopeMetrics: [{ scope: { name: 'builderd', version: builderdVersion() }, metrics }],
  };
}

function metricData(family: Family, times: Times): MetricData {
  const descriptor = {
    name: family.name,
    description: family.help,
    unit: unitOf(family.name),
    valueType: ValueType.DOUBLE,
  };
  const aggregationTemporality = AggregationTemporality.CUMULATIVE;
  const kind: string = String(family.type);
  if (kind === 'histogram') {
    return {
      descriptor,
      aggregationTemporality,
      dataPointType: DataPointType.HISTOGRAM,
      dataPoints: histograms(family, times),
    };
  }
  const dataPoints = family.values.map(({ labels, value }) =>
    point(attributesOf(labels), value, times),
  );
  return kind === 'counter'
    ? {
        descriptor,
        aggregationTemporality,
        dataPointType: DataPointType.SUM,
        isMonotonic: true,
        dataPoints,
      }
    : { descriptor, aggregationTemporality, dataPointType: DataPointType.GAUGE, dataPoints };
}

/** prom-client counts buckets from below, OTLP each for itself. */
function histograms(family: Family, times: Times): DataPoint<Histogram>[] {
  const series = new Map<
    string,
    { attributes: Attributes; below: Map<number, number>; sum: number; count: number }
  >();
  for (const { labels, value, ...rest } of family.values) {
    const { le, ...others } = attributesOf(labels);
    const key = JSON.stringify(others);
    let one = series.get(key);
    if (one === undefined) {
      one = { attributes: others, below: new Map(), sum: 0, count: 0 };
      series.set(key, one);
    }
    const name = 'metricName' in rest ? String(rest.metricName) : '';
    if (name.endsWith('_sum')) one.sum = value;
    else if (name.endsWith('_count')) one.count = value;
    else if (le !== undefined) one.below.set(le === '+Inf' ? Infinity : Number(le), value);
  }
  return Array.from(series.values(), ({ attributes, below, sum, count }) => {
    const boundaries = [...below.keys()].filter(Number.isFinite).toSorted((a, b) => a - b);
    const counts = [...boundaries, Infinity].map((edge, index) => {
      const before = index === 0 ? 0 : (below.get(boundaries[index - 1] ?? 0) ?? 0);
      return (edge === Infinity ? count : (below.get(edge) ?? 0)) - before;
    });
    return point(attributes, { buckets: { boundaries, counts }, sum, count }, times);
  });
}

function point<T>(attributes: Attributes, value: T, { startedAt, at }: Times): DataPoint<T> {
  return { attributes, value, startTime: timeOf(startedAt), endTime: timeOf(at) };
}

function attributesOf(labels: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, String(value)]));
}

function timeOf(date: Date): HrTime {
  const ms = date.getTime();
  return [Math.floor(ms / 1000), (ms % 1000) * 1e6];
}

function unitOf(name: string): string {
  if (name.endsWith('_seconds')) return 's';
  return /_bytes(?:_total)?$/.test(name) ? 'By' : '1';
}
