import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { formatBytes, formatDuration } from '../../src/core/units.ts';
import { runProgram } from './run-program.ts';
import type { LaneResult } from './test-lanes.ts';

const FILE = 'test/vm/RESULTS.md';

/** Keeps what the last run of the QEMU lane showed, and on what kind of machine. */
export async function writeVmResults(result: LaneResult): Promise<void> {
  const rows = [
    ...result.passes.map(({ name, elapsedMs }) => [name, 'passed', formatDuration(elapsedMs)]),
    ...result.failures.map((name) => [name, '**failed**', '']),
    ...result.skips.map(({ name, reason }) => [name, `skipped: ${reason}`, '']),
  ];
  const text = `# The QEMU lane: last results

Written by \`npm run test:vm\`; do not edit.

${await describeMachine()}

| Test | Result | Time |
| --- | --- | --- |
${rows.map((row) => `| ${row.join(' | ')} |`).join('\n')}

${result.passes.length} passed, ${result.failures.length} failed, ${result.skips.length} skipped in ${formatDuration(result.elapsedMs)}.
`;
  await writeFile(FILE, text);
  console.log(`written: ${FILE}`);
}

/** Kind and size of the machine; never its name. */
async function describeMachine(): Promise<string> {
  const osRelease = await readFile('/etc/os-release', 'utf8');
  const system = /^PRETTY_NAME="?([^"\n]+)/m.exec(osRelease)?.[1] ?? 'Linux';
  const qemu = await runProgram('qemu-system-x86_64', ['--version']);
  const facts = [
    new Date().toISOString().slice(0, 10),
    `${availableParallelism()} × ${cpus()[0]?.model.trim() ?? 'x86-64'}`,
    formatBytes(totalmem()),
    `${system}, kernel ${release()}`,
    `Node ${process.version}`,
    `${qemu.split('\n')[0]} (TCG, no KVM)`,
  ];
  return facts.map((fact) => `- ${fact}`).join('\n');
}
