import { Command, CommanderError, Option } from 'commander';
import { BuilderdError } from '../core/errors.ts';
import type { RawBuildOptions } from './build-options.ts';
import { collect } from './ctl/command-kit.ts';
import type { DatabaseOptions } from './database-commands.ts';
import type { DoctorOptions } from './doctor/doctor-command.ts';
import { HELP_AFTER_BUILD, HELP_AFTER_ROOT } from './help-text.ts';
import type { Io } from './io.ts';
import { printFault } from './print-fault.ts';
import type { RootOptions } from './root-command.ts';
import type { ServeOptions } from './serve/serve-command.ts';
import type { DfOptions } from './storage/df-command.ts';
import type { FsckOptions } from './storage/fsck-command.ts';
import type { GcOptions } from './storage/gc-command.ts';
import type { KeysAction, KeysOptions } from './storage/keys-command.ts';

/** Named by the design, built by later versions: they answer `not_supported`, never a guess. */
const LATER_COMMANDS = ['backup', 'restore', 'exec'] as const;

interface Outcome {
  exitCode: number;
}

/** Runs one command line and gives its exit code. Never throws, never exits. */
export async function runProgram(argv: readonly string[], io: Io): Promise<number> {
  const outcome: Outcome = { exitCode: 0 };
  try {
    await createProgram(io, outcome).parseAsync([...argv], { from: 'user' });
    return outcome.exitCode;
  } catch (reason) {
    if (reason instanceof CommanderError && reason.exitCode === 0) return 0;
    return printFault(fromCommander(reason), io, {
      json: wantsJson(argv),
      debug: await wantsDebug(),
    });
  }
}

/** The whole grammar, also read by `completion`. Commands load their code when they run. */
export function createProgram(io: Io, outcome: Outcome = { exitCode: 0 }): Command {
  const program = new Command('builderd')
    .description('Turns a container image into a bootable root file system.')
    .option('-V, --version', 'show the version')
    .option('--validate-config', 'check the UNKEY_BUILDERD_ settings and exit')
    .option('--test-database', 'reach the database, write and undo a row, and exit')
    .addOption(configOption())
    // An option belongs to the command that it stands behind: --config may stand behind either.
    .enablePositionalOptions()
    .helpCommand('help [command]', 'show help for a command')
    .addHelpText('after', HELP_AFTER_ROOT)
    .showSuggestionAfterError()
    .allowExcessArguments()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      // Faults are thrown; printFault says them in one place.
      outputError: () => undefined,
    })
    .exitOverride()
    .action(async (options: RootOptions) => {
      const { runRoot } = await import('./root-command.ts');
      await runRoot(options, program, io);
    });
  const commands = [
    buildCommand(io),
    serveCommand(io),
    doctorCommand(io, outcome),
    migrateCommand(io),
    validateDatabaseCommand(io),
    fsckCommand(io, outcome),
    gcCommand(io),
    dfCommand(io),
    keysCommand(io),
    versionCommand(io),
    completionCommand(io, program),
  ];
  for (const command of commands) {
    program.addCommand(command.copyInheritedSettings(program).allowExcessArguments(false));
  }
  for (const name of LATER_COMMANDS) {
    program.addCommand(laterCommand(name).copyInheritedSettings(program), { hidden: true });
  }
  return program;
}

function buildCommand(io: Io): Command {
  return new Command('build')
    .description('build a root file system from an image, on this host, without a service')
    .argument(
      '<source>',
      'docker://REF or REF, oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE',
    )
    .option('-f, --format <list>', 'formats, separated by commas: ext4, tar', 'ext4')
    .option('-o, --output <path>', 'the file for one format, a directory for several')
    .option(
      '--platform <os/arch[/variant]>',
      'platform of a multi-platform image (default: this host)',
    )
    .addOption(new Option('--pull <policy>', 'always, missing or never (default: missing)'))
    .option(
      '--size <size>',
      'ext4: min, min+FREE such as min+512M, or a size such as 2G',
      'min+64M',
    )
    .option('--label <text>', 'ext4: volume label, at most 16 bytes')
    .option('--uuid <uuid>', 'ext4: volume UUID (default: derived from the content)')
    .option('--journal', 'ext4: add a journal')
    .option('--no-lost-found', 'ext4: leave out /lost+found')
    .option('--guest-files', 'add /container.cmd, /container.env and missing mount points')
    .option(
      '--guest-init <file>',
      'add this program as /usr/bin/metald-init; implies --guest-files',
    )
    .addOption(
      new Option('--devices <policy>', 'device nodes of the image')
        .choices(['keep', 'standard', 'drop'])
        .default('keep'),
    )
    .option('--exclude <pattern>', 'leave out what matches, with all below; repeatable', collect)
    .option(
      '--preserve <pattern>',
      'keep what matches, whatever leaves it out; repeatable',
      collect,
    )
    .option('--remove-docs', 'leave out manuals and the like; licence texts stay')
    .option('--remove-cache', 'leave out caches and temporary files')
    .option(
      '--entrypoint <word>',
      "the guest's program, in place of the image's; repeatable",
      collect,
    )
    .option('--command <word>', "its arguments, in place of the image's; repeatable", collect)
    .option('--working-dir <path>', "the program's directory, in place of the image's")
    .option('--env <name=value>', 'a variable of the guest, no secret; repeatable', collect)
    .option('--expose <port>', "80, 53/udp, …, in place of the image's ports; repeatable", collect)
    .option(
      '--source-date-epoch <seconds>',
      'clamp later times to this (default: SOURCE_DATE_EPOCH)',
    )
    .option('--timeout <duration>', 'give up after this long, such as 10m (default: never)')
    .option('--containerd-address <socket>', "containerd's socket")
    .option('--namespace <name>', 'containerd namespace (default: builderd)')
    .addOption(
      new Option('--progress <view>', 'live view on a terminal, lines elsewhere; on stderr')
        .choices(['auto', 'plain', 'json'])
        .default('auto'),
    )
    .option('--json', 'print the result, or the error, as JSON on stdout')
    .option('-q, --quiet', 'no progress; print only the paths of the artifacts')
    .addOption(configOption())
    .addOption(new Option('--tenant <name>').hideHelp())
    .addHelpText('after', HELP_AFTER_BUILD)
    .action(async (source: string, options: RawBuildOptions, command: Command) => {
      const { runBuild } = await import('./build-command.ts');
      await runBuild(source, withRootConfig(options, command), io);
    });
}

function serveCommand(io: Io): Command {
  return new Command('serve')
    .description('run the service: the API, the metrics and the builds')
    .addOption(
      new Option('--role <role>', 'which of its processes this host runs')
        .choices(['all', 'api', 'executor'])
        .default('all'),
    )
    .addOption(configOption())
    .action(async (options: ServeOptions, command: Command) => {
      const { runServe } = await import('./serve/serve-command.ts');
      await runServe(withRootConfig(options, command), io);
    });
}

function doctorCommand(io: Io, outcome: Outcome): Command {
  return new Command('doctor')
    .description('show what this host can do, and what to do about the rest')
    .option('--containerd-address <socket>', "containerd's socket")
    .option('--json', 'print the checks as JSON')
    .addOption(configOption())
    .action(async (options: DoctorOptions, command: Command) => {
      const { runDoctor } = await import('./doctor/doctor-command.ts');
      outcome.exitCode = await runDoctor(withRootConfig(options, command), io);
    });
}

function migrateCommand(io: Io): Command {
  return new Command('migrate')
    .description('bring the tables of the database to this version')
    .addOption(configOption())
    .action(async (options: DatabaseOptions, command: Command) => {
      const { runMigrate } = await import('./database-commands.ts');
      await runMigrate(withRootConfig(options, command), io);
    });
}

function validateDatabaseCommand(io: Io): Command {
  return new Command('validate-db')
    .description('check that the database has the tables of this version and is not damaged')
    .addOption(configOption())
    .action(async (options: DatabaseOptions, command: Command) => {
      const { runValidateDatabase } = await import('./database-commands.ts');
      await runValidateDatabase(withRootConfig(options, command), io);
    });
}

function fsckCommand(io: Io, outcome: Outcome): Command {
  return new Command('fsck')
    .description('check every stored artifact against the database')
    .option('--repair', 'note down what is damaged, and put accounts right')
    .option('--quick', 'look at lengths only, instead of reading every byte')
    .option('--adopt-store', 'make the store that of this database: after a restore only')
    .option('--json', 'print what was found as JSON')
    .addOption(configOption())
    .action(async (options: FsckOptions, command: Command) => {
      const { runFsck } = await import('./storage/fsck-command.ts');
      outcome.exitCode = await runFsck(withRootConfig(options, command), io);
    });
}

function gcCommand(io: Io): Command {
  return new Command('gc')
    .description('remove builds beyond their retention, and bytes that nobody can reach')
    .option('-n, --dry-run', 'say what would be removed, and remove nothing')
    .option('--grace <duration>', 'how long unreachable bytes are kept, at least 1h (default: 24h)')
    .option('--json', 'print the report as JSON')
    .addOption(configOption())
    .action(async (options: GcOptions, command: Command) => {
      const { runGc } = await import('./storage/gc-command.ts');
      await runGc(withRootConfig(options, command), io);
    });
}

function dfCommand(io: Io): Command {
  return new Command('df')
    .description('show what each tenant keeps, and what the disk has left')
    .option('--json', 'print it as JSON')
    .addOption(configOption())
    .action(async (options: DfOptions, command: Command) => {
      const { runDf } = await import('./storage/df-command.ts');
      await runDf(withRootConfig(options, command), io);
    });
}

function keysCommand(io: Io): Command {
  const keys = new Command('keys').description("keys that a tenant's artifacts are encrypted with");
  const add = (action: KeysAction, about: string): void => {
    const command = new Command(action)
      .description(about)
      .argument('<tenant>', 'name of the tenant')
      .addOption(configOption())
      .action(async (tenant: string, options: KeysOptions, used: Command) => {
        const { runKeys } = await import('./storage/keys-command.ts');
        await runKeys(action, tenant, withRootConfig(options, used), io);
      });
    keys.addCommand(command.copyInheritedSettings(keys).allowExcessArguments(false));
  };
  add('export', 'print them, so that the age program can decrypt artifacts; keep them secret');
  add('rotate', 'encrypt new artifacts with a new key; the old ones stay readable');
  add('reencrypt', 'store all artifacts again under the newest key');
  return keys;
}

function versionCommand(io: Io): Command {
  return new Command('version')
    .description('show the version of builderd and of what it runs on')
    .option('--json', 'print it as JSON')
    .action(async (options: { readonly json?: true }) => {
      const { printVersion } = await import('./version-command.ts');
      printVersion(io, { json: options.json === true });
    });
}

function completionCommand(io: Io, program: Command): Command {
  return new Command('completion')
    .description('print a completion script for a shell')
    .argument('<shell>', 'bash, zsh or fish')
    .action(async (shell: string) => {
      const { completionScript } = await import('./completion.ts');
      io.stdout.write(completionScript(shell, program));
    });
}

function laterCommand(name: string): Command {
  return new Command(name)
    .allowUnknownOption()
    .allowExcessArguments()
    .helpOption(false)
    .action(() => {
      throw new BuilderdError(
        'not_supported',
        `Cannot run builderd ${name}: this version builds images from the command line only`,
      );
    });
}

function configOption(): Option {
  return new Option('--config <file>', 'read UNKEY_BUILDERD_ settings from an environment file');
}

/** `builderd --config FILE build …` means the same as `builderd build --config FILE …`. */
function withRootConfig<O extends { readonly config?: string }>(options: O, command: Command): O {
  for (let above = command.parent; above !== null; above = above.parent) {
    const { config } = above.opts<RootOptions>();
    if (config !== undefined) return { config, ...options };
  }
  return options;
}

function fromCommander(reason: unknown): unknown {
  if (!(reason instanceof CommanderError)) return reason;
  const fact = reason.message.replace(/^error: /, '').replaceAll('\n', ' ');
  return new BuilderdError('usage.invalid', `Cannot read the command line: ${fact}`);
}

/** Even when the command line cannot be parsed, a program that asked for JSON gets JSON. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return argv.slice(0, end < 0 ? argv.length : end).includes('--json');
}

async function wantsDebug(): Promise<boolean> {
  const { debugRequested } = await import('./config.ts');
  return debugRequested();
}
