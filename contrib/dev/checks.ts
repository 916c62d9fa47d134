import { spawn } from 'node:child_process';
import { formatDuration } from '../../src/core/units.ts';
import { exitOf } from './run-program.ts';
import type { LaneResult } from './test-lanes.ts';

interface Check {
  readonly name: string;
  readonly argv: readonly [string, ...string[]];
  /** How to get it right, for whoever sees it fail. */
  readonly remedy: string;
}

const CHECKS: readonly Check[] = [
  {
    name: 'format',
    argv: ['biome', 'format', '.'],
    remedy: 'npm run format',
  },
  {
    name: 'lint',
    argv: ['oxlint', '--type-aware', '--deny-warnings'],
    remedy: 'see CONTRIBUTING.md, "Style"',
  },
  { name: 'types', argv: ['tsc'], remedy: 'npx tsc' },
  { name: 'unused code', argv: ['knip', '--no-progress'], remedy: 'remove it, or use it' },
  {
    name: 'generated code is current',
    argv: ['node', 'contrib/dev/gen-proto.ts', '--check'],
    remedy: 'npm run gen',
  },
  {
    name: 'habits',
    argv: [
      'node',
      '--test',
      '--test-reporter=dot',
      'test/unit/import-arrows.test.ts',
      'test/unit/repository-habits.test.ts',
    ],
    remedy: 'see CONTRIBUTING.md',
  },
];

/** The static checks, two at a time: what an editor would have said. Under half a minute. */
export async function runChecks(signal: AbortSignal): Promise<LaneResult> {
  const started = performance.now();
  const failures: string[] = [];
  const passes: { name: string; elapsedMs: number }[] = [];
  const waiting = [...CHECKS];
  const worker = async (): Promise<void> => {
    for (let check = waiting.shift(); check !== undefined; check = waiting.shift()) {
      const begun = performance.now();
      const name = `check: ${check.name}`;
      if (await runCheck(check, signal))
        passes.push({ name, elapsedMs: performance.now() - begun });
      else failures.push(name);
    }
  };
  await Promise.all([worker(), worker()]);
  return { passes, failures, skips: [], elapsedMs: performance.now() - started };
}

async function runCheck(check: Check, signal: AbortSignal): Promise<boolean> {
  const started = performance.now();
  const [program, ...args] = check.argv;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], signal });
  const output: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => output.push(chunk));
  const code = await exitOf(child);
  const took = formatDuration(performance.now() - started);
  if (code === 0) {
    console.log(`✔ ${check.name} (${took})`);
    return true;
  }
  process.stdout.write(Buffer.concat(output));
  console.log(`✖ ${check.name} (${took}): ${check.argv.join(' ')}; to mend: ${check.remedy}`);
  return false;
}
