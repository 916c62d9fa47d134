import { globSync } from 'node:fs';
import { run } from 'node:test';
import { spec, type TestEvent } from 'node:test/reporters';
import { formatCoverage } from './coverage.ts';

export interface LaneResult {
  readonly passes: readonly { readonly name: string; readonly elapsedMs: number }[];
  readonly failures: readonly string[];
  readonly skips: readonly { readonly name: string; readonly reason: string }[];
  readonly elapsedMs: number;
}

export interface TestLane {
  readonly name: string;
  readonly files: string;
  /** Files at a time. Lanes that start daemons and virtual machines share two cores poorly. */
  readonly concurrency: number;
  /** Ends a lane that hangs; a machine under load takes several times what a quiet one does. */
  readonly timeoutMs: number;
  readonly coverage?: boolean;
}

const MINUTE_MS = 60_000;

export const TEST_LANES: ReadonlyMap<string, TestLane> = new Map(
  [
    lane('unit', 'test/unit/**/*.test.ts', 2, 5, true),
    lane('security', 'test/security/**/*.test.ts', 2, 10),
    lane('integration', 'test/integration/**/*.test.ts', 2, 25),
    lane('conformance', 'test/conformance/**/*.test.ts', 2, 15),
    lane('smoke', 'test/vm/smoke.test.ts', 1, 6),
    lane('vm', 'test/vm/**/*.test.ts', 1, 30),
  ].map((each) => [each.name, each]),
);

function lane(
  name: string,
  files: string,
  concurrency: number,
  minutes: number,
  coverage = false,
): TestLane {
  return { name, files, concurrency, timeoutMs: minutes * MINUTE_MS, coverage };
}

/** Runs one lane's files under node:test, shows them as they go, and counts. */
export async function runLane(lane: TestLane, signal: AbortSignal): Promise<LaneResult> {
  const started = performance.now();
  const files = globSync(lane.files).toSorted();
  const passes: { name: string; elapsedMs: number }[] = [];
  const failures: string[] = [];
  const skips: { name: string; reason: string }[] = [];
  // A lane that finds nothing proves nothing.
  if (files.length === 0) failures.push(`${lane.name}: no file matches ${lane.files}`);
  const deadline = AbortSignal.timeout(lane.timeoutMs);
  const stream = run({
    files,
    concurrency: lane.concurrency,
    signal: AbortSignal.any([signal, deadline]),
    ...(lane.coverage === true ? { coverage: true, coverageIncludeGlobs: ['src/**/*.ts'] } : {}),
  });
  stream.on('test:pass', (data) => {
    const name = `${lane.name}: ${data.name}`;
    if (data.details.type === 'suite') return;
    if (data.skip === undefined && data.todo === undefined) {
      passes.push({ name, elapsedMs: data.details.duration_ms });
    } else skips.push({ name, reason: reasonOf(data.skip ?? data.todo) });
  });
  stream.on('test:fail', (data) => {
    if (data.details.type !== 'suite') failures.push(`${lane.name}: ${data.name}`);
  });
  stream.on('test:coverage', (data) => console.log(formatCoverage(data.summary)));
  for await (const chunk of stream.compose(withoutFileCoverage).compose(spec)) {
    process.stdout.write(String(chunk));
  }
  if (deadline.aborted) failures.push(`${lane.name}: not done after ${lane.timeoutMs / 1000} s`);
  return { passes, failures, skips, elapsedMs: performance.now() - started };
}

function reasonOf(mark: string | boolean | undefined): string {
  return typeof mark === 'string' && mark !== '' ? mark : 'no reason given';
}

/** The reporter would print a line a file; `formatCoverage` has said it by room. */
async function* withoutFileCoverage(events: AsyncIterable<TestEvent>): AsyncIterable<TestEvent> {
  for await (const event of events) {
    if (event.type !== 'test:coverage') yield event;
  }
}
