import { type Command, Option } from 'commander';
import { type Grammar, collect, serverCommand, wholeNumber, withServer } from '../command-kit.ts';
import type { BuildOptions } from './build-options.ts';

const EXAMPLES = `
SOURCE is an image (debian:12, docker://ghcr.io/org/app@sha256:…), git+https://HOST/REPO#REF:DIRECTORY, or the
URL of an archive. On a terminal the build is followed; elsewhere its id is printed at once, unless
--follow or -o is given. Ctrl-C leaves the build running and says how to follow it again.

-o names the file for one format, with FILE.metadata.json and FILE.fidelity.json beside it, and a
directory for several. Exit codes: 0 built, 1 the build failed, 2 wrong use, 3 the server cannot.

Examples:
  builderctl build debian:12
  builderctl build debian:12 --format ext4,tar --label team=core -o out/
  builderctl build ghcr.io/org/app:1 --size 4G --journal --timeout 20m -o app.ext4
  ID=$(builderctl build debian:12 --detach); builderctl logs -f "$ID"
`;

export function buildCommand(grammar: Grammar): Command {
  return addSpecOptions(
    serverCommand('build', 'ask for a build, follow it, fetch what it made').argument(
      '<source>',
      'an image, git+https://…#REF:DIRECTORY or https://…',
    ),
  )
    .option(
      '-o, --output <path>',
      'fetch the result: the file for one format, a directory for several',
    )
    .addOption(
      new Option('--follow', 'wait for its end, also without a terminal').conflicts('detach'),
    )
    .addOption(
      new Option('-d, --detach', 'print its id and leave').conflicts([
        'output',
        'cancelOnInterrupt',
      ]),
    )
    .option('--cancel-on-interrupt', 'Ctrl-C cancels the build instead of leaving it')
    .option('--idempotency-key <key>', 'the same key gives the same build (default: a new one)')
    .addOption(
      new Option('--progress <view>', 'live view on a terminal, lines elsewhere; on stderr')
        .choices(['auto', 'plain', 'json'])
        .default('auto'),
    )
    .option('-q, --quiet', 'no progress')
    .addHelpText('after', EXAMPLES)
    .action(
      withServer<BuildOptions>(grammar, async (session, options, [source = '']) => {
        const { runCtlBuild } = await import('./run-build.ts');
        grammar.outcome.exitCode = await runCtlBuild(session, source, options);
      }),
    );
}

function addSpecOptions(command: Command): Command {
  return command
    .option('-f, --format <list>', 'formats, separated by commas: ext4, tar (default: ext4)')
    .option('--platform <os/arch[/variant]>', "platform of the image (default: the executor's)")
    .addOption(
      new Option('--pull <policy>', 'when to pull').choices(['always', 'missing', 'never']),
    )
    .option('--size <size>', 'ext4: min, min+FREE such as min+512M, or a size such as 2G')
    .option('--volume-label <text>', 'ext4: volume label, at most 16 bytes')
    .option('--journal', 'ext4: add a journal')
    .option('--no-lost-found', 'ext4: leave out /lost+found')
    .option('--guest-files', 'add /container.cmd, /container.env and missing mount points')
    .addOption(
      new Option('--devices <policy>', 'device nodes').choices(['keep', 'standard', 'drop']),
    )
    .option(
      '--exclude <pattern>',
      'leave out what matches, with all below; may be repeated',
      collect,
    )
    .option('--preserve <pattern>', 'keep what matches all the same; may be repeated', collect)
    .option('--remove-docs', 'leave out manuals and the like; licence texts stay')
    .option('--remove-cache', 'leave out caches and temporary files')
    .option(
      '--entrypoint <word>',
      "the guest's program, in place of the image's; may be repeated",
      collect,
    )
    .option('--command <word>', "its arguments, in place of the image's; may be repeated", collect)
    .option('--working-dir <path>', "the program's directory, in place of the image's")
    .option('--env <name=value>', 'a variable of the guest, no secret; may be repeated', collect)
    .option(
      '--expose <port>',
      "80, 53/udp, …, in place of the image's ports; may be repeated",
      collect,
    )
    .option('--source-date-epoch <seconds>', 'clamp later times to this', wholeNumber(0, 2 ** 34))
    .option('--name <text>', 'a name for people')
    .option('-l, --label <key=value>', 'label of the build; may be repeated', collect)
    .option(
      '--priority <n>',
      'within the tenant, -100 to 100; higher first',
      wholeNumber(-100, 100),
    )
    .option('--timeout <duration>', 'give up after this long, such as 10m')
    .option('--source-username <name>', 'login for the registry or the Git host')
    .option('--source-password-file <file>', 'its password, read from a file')
    .option('--source-password-stdin', 'its password, read from standard input')
    .option('--source-token-file <file>', 'a token in place of user and password');
}
