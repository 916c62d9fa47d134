import './require-node.ts';
import { parseArgs } from 'node:util';
import { formatDuration } from '../../src/core/units.ts';
import { runChecks } from './checks.ts';
import { type LaneResult, runLane, TEST_LANES } from './test-lanes.ts';
import { writeVmResults } from './vm-results.ts';

/** The order of `npm test`: what fails fastest comes first. */
const EVERYTHING = ['check', 'unit', 'security', 'integration', 'conformance', 'smoke'] as const;

async function main(): Promise<number> {
  const { positionals } = parseArgs({ allowPositionals: true });
  const asked = positionals.length > 0 ? positionals : [...EVERYTHING];
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => stop.abort(new Error(`stopped by ${name}`)));
  }
  const results: LaneResult[] = [];
  for (const name of asked) {
    if (stop.signal.aborted) break;
    const result = await runOne(name, stop.signal);
    console.log(`${name}: ${summary(result)} in ${formatDuration(result.elapsedMs)}\n`);
    results.push(result);
    if (name === 'vm') await writeVmResults(result);
  }
  return report(results, stop.signal.aborted);
}

async function runOne(name: string, signal: AbortSignal): Promise<LaneResult> {
  console.log(`── ${name}`);
  if (name === 'check') return await runChecks(signal);
  const lane = TEST_LANES.get(name);
  if (lane === undefined) {
    throw new Error(`Cannot run "${name}": want check, ${[...TEST_LANES.keys()].join(', ')}`);
  }
  return await runLane(lane, signal);
}

function report(results: readonly LaneResult[], interrupted: boolean): number {
  const total = results.reduce(add, { passes: [], failures: [], skips: [], elapsedMs: 0 });
  const forbidden = process.env['CI'] === 'true' ? total.skips.filter(mayNotSkipInCi) : [];
  for (const { name, reason } of total.skips) console.log(`skipped: ${name}: ${reason}`);
  for (const name of total.failures) console.log(`failed: ${name}`);
  for (const { name } of forbidden) console.log(`failed: ${name}: CI must be able to run it`);
  if (interrupted) console.log('failed: interrupted before the end');
  const failed = total.failures.length + forbidden.length + (interrupted ? 1 : 0);
  const skipped = total.skips.length - forbidden.length;
  console.log(`${total.passes.length} passed, ${failed} failed, ${skipped} skipped`);
  return failed === 0 ? 0 : 1;
}

/** CI installs packages, so only what the machine itself lacks excuses a skip there. */
function mayNotSkipInCi(skip: { readonly reason: string }): boolean {
  return !skip.reason.startsWith('host lacks ');
}

function add(left: LaneResult, right: LaneResult): LaneResult {
  return {
    passes: [...left.passes, ...right.passes],
    failures: [...left.failures, ...right.failures],
    skips: [...left.skips, ...right.skips],
    elapsedMs: left.elapsedMs + right.elapsedMs,
  };
}

function summary({ passes, failures, skips }: LaneResult): string {
  return `${passes.length} passed, ${failures.length} failed, ${skips.length} skipped`;
}

process.exitCode = await main();
