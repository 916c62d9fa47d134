import type { Command } from 'commander';
import { BuilderdError } from '../core/errors.ts';
import { closestTo } from './closest.ts';
import type { Io } from './io.ts';

export interface RootOptions {
  readonly version?: true;
  readonly validateConfig?: true;
  readonly testDatabase?: true;
  readonly config?: string;
}

/** `builderd` without a command: the options that the operations guide writes, or help. */
export async function runRoot(options: RootOptions, program: Command, io: Io): Promise<void> {
  if (options.version === true) {
    const { printVersion } = await import('./version-command.ts');
    printVersion(io, { json: false });
    return;
  }
  if (options.testDatabase === true) {
    const { runTestDatabase } = await import('./database-commands.ts');
    await runTestDatabase(options, io);
    return;
  }
  if (options.validateConfig === true) {
    const { validateConfig } = await import('./validate-config.ts');
    validateConfig(options.config, io);
    return;
  }
  const [word] = program.args;
  if (word !== undefined) {
    const names = program.commands.map((command) => command.name());
    const near = closestTo(word, names);
    throw new BuilderdError(
      'usage.invalid',
      `Cannot run builderd ${JSON.stringify(word.slice(0, 60))}: there is no such command${
        near === undefined ? '' : `; did you mean ${near}?`
      }`,
    );
  }
  program.outputHelp({ error: true });
  throw new BuilderdError('usage.invalid', 'Cannot run builderd: no command was named');
}
