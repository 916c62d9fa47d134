import type { Io } from './io.ts';
import { runProcess } from './run-process.ts';

/** The process of builderd. */
export function main(): Promise<void> {
  return runProcess(runCommand);
}

/** What `serve` starts lives long and has one argument: it does without the grammar. */
async function runCommand(argv: readonly string[], io: Io): Promise<number> {
  const [command, role] = argv;
  if (command === 'role') {
    const { runRole } = await import('./serve/role-command.ts');
    return await runRole(role ?? '', io);
  }
  const { runProgram } = await import('./program.ts');
  return await runProgram(argv, io);
}
