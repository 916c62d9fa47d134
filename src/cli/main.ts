import { runProgram } from './program.ts';
import { runProcess } from './run-process.ts';

/** The process of builderd. */
export function main(): Promise<void> {
  return runProcess(runProgram);
}
