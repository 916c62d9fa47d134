import { Command, CommanderError } from 'commander';
import { BuilderdError } from '../../core/errors.ts';
import { closestTo } from '../closest.ts';
import { completionScript } from '../completion.ts';
import { builderdVersion } from '../version.ts';
import { addCommonOptions, type Grammar, isCommonOption, serverCommand } from './command-kit.ts';
import { artifactsGroup } from './commands/artifacts.ts';
import { buildCommand } from './commands/build.ts';
import { buildsGroup } from './commands/builds.ts';
import { contextGroup, logoutCommand } from './commands/contexts.ts';
import { credentialsGroup } from './commands/credentials.ts';
import { eventsCommand } from './commands/events.ts';
import { healthCommand } from './commands/health.ts';
import { loginCommand } from './commands/login.ts';
import { logsCommand } from './commands/logs.ts';
import { quotaGroup } from './commands/quota.ts';
import { auditCommand, statsCommand, usageCommand, violationsCommand } from './commands/reports.ts';
import { tenantsGroup } from './commands/tenants.ts';
import { tokenGroup } from './commands/tokens.ts';
import { webhooksGroup } from './commands/webhooks.ts';
import type { CtlHost } from './ctl-host.ts';
import { printCtlFault } from './print-ctl-fault.ts';

const HELP = `
Examples:
  builderctl login https://builderd.example.com --token-file token --tenant acme
  builderctl build debian:12 -o debian.ext4        ask, follow, fetch
  builderctl logs -f BUILD                         follow, across restarts of the server
  builderctl quota set acme maxBuildMinutes=30m --dry-run

BUILDERCTL_SERVER, BUILDERCTL_TOKEN (or BUILDERCTL_TOKEN_FILE), BUILDERCTL_TENANT, BUILDERCTL_CONTEXT and
BUILDERCTL_CA_FILE stand above the context. --json prints one document, or one line for each entry.
Exit codes: 0 done, 1 the build failed, 2 wrong use, 3 the server cannot do it.
`;

/** Runs one command line and gives its exit code. Never throws, never exits. */
export async function runCtl(argv: readonly string[], host: CtlHost): Promise<number> {
  const outcome = { exitCode: 0 };
  try {
    await createCtlProgram({ host, outcome }).parseAsync([...argv], { from: 'user' });
    return outcome.exitCode;
  } catch (reason) {
    if (reason instanceof CommanderError && reason.exitCode === 0) return 0;
    return printCtlFault(fromCommander(reason, argv), host, { json: wantsJson(argv) });
  }
}

/** The whole grammar, also read by `completion`. */
export function createCtlProgram(grammar: Grammar): Command {
  const { host } = grammar;
  const program = new Command('builderctl')
    .description('Talks to a builderd service: builds, logs, artifacts, tenants.')
    .version(builderdVersion(), '-V, --version', 'show the version')
    .helpCommand('help [command]', 'show help for a command')
    .addHelpText('after', HELP)
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: (text) => host.stdout.write(text),
      writeErr: (text) => host.stderr.write(text),
      // Faults are thrown; printCtlFault says them in one place.
      outputError: () => undefined,
    })
    .exitOverride()
    .allowExcessArguments()
    .action(() => refuseWord(program));
  const commands = [
    loginCommand(grammar),
    logoutCommand(grammar),
    contextGroup(grammar),
    buildCommand(grammar),
    buildsGroup(grammar),
    logsCommand(grammar),
    artifactsGroup(grammar),
    eventsCommand(grammar),
    webhooksGroup(grammar),
    credentialsGroup(grammar),
    usageCommand(grammar),
    violationsCommand(grammar),
    statsCommand(grammar),
    quotaGroup(grammar),
    tenantsGroup(grammar),
    tokenGroup(grammar),
    auditCommand(grammar),
    healthCommand(grammar),
    topCommand(),
    completionCommand(host, program),
  ];
  for (const command of commands) {
    for (const each of [command, ...command.commands]) {
      addCommonOptions(each);
      each.copyInheritedSettings(program).allowExcessArguments(each.commands.length > 0);
      if (each.commands.length > 0) each.action(() => refuseWord(each));
    }
    program.addCommand(command);
  }
  return program;
}

/** No command, or one that there is not. */
function refuseWord(command: Command): never {
  const path = [command.parent?.name(), command.name()]
    .filter((name) => name !== undefined)
    .join(' ');
  const [word] = command.args;
  const names = command.commands.map((each) => each.name());
  if (word === undefined) {
    command.outputHelp({ error: true });
    throw new BuilderdError('usage.invalid', `Cannot run ${path}: no command was named`);
  }
  const near = closestTo(word, names);
  throw new BuilderdError(
    'usage.invalid',
    `Cannot run ${path} ${JSON.stringify(word.slice(0, 60))}: there is no such command; ${
      near === undefined ? `there are ${names.join(', ')}` : `did you mean ${near}?`
    }`,
  );
}

function topCommand(): Command {
  return serverCommand('top', 'live use of the tenants’ budgets')
    .argument('[tenant]', 'one tenant')
    .action(() => {
      throw new BuilderdError(
        'not_supported',
        'Cannot show live use: this version has no budgets of tenants; builderctl usage counts builds, time and storage',
      );
    });
}

function completionCommand(host: CtlHost, program: Command): Command {
  return new Command('completion')
    .description('print a completion script for a shell')
    .argument('<shell>', 'bash, zsh or fish')
    .action((shell: string) => {
      host.stdout.write(completionScript(shell, program));
    });
}

function fromCommander(reason: unknown, argv: readonly string[]): unknown {
  if (!(reason instanceof CommanderError)) return reason;
  const [first = ''] = argv;
  const fact = isCommonOption(first)
    ? `${first} comes after the command, as in builderctl builds list ${first}`
    : reason.message.replace(/^error: /, '').replaceAll('\n', ' ');
  return new BuilderdError('usage.invalid', `Cannot read the command line: ${fact}`);
}

/** Even when the command line cannot be parsed, a program that asked for JSON gets JSON. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return argv.slice(0, end < 0 ? argv.length : end).includes('--json');
}
