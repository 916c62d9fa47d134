import type { Command, Option } from 'commander';
import { BuilderdError } from '../core/errors.ts';

interface Flag {
  readonly long: string;
  readonly short: string | undefined;
  readonly about: string;
  readonly values: readonly string[];
  readonly takesValue: boolean;
  readonly takesFile: boolean;
}

interface Word {
  /** `build`, or `builds list` for a command below another. */
  readonly path: string;
  readonly about: string;
  readonly flags: readonly Flag[];
  /** Names of the commands below it. */
  readonly below: readonly string[];
}

/** Values of options that the grammar takes as free text. */
const KNOWN_VALUES = new Map<string, readonly string[]>([
  ['--format', ['ext4', 'tar', 'ext4,tar']],
  ['--pull', ['always', 'missing', 'never']],
  ['--size', ['min', 'min+64M', 'min+1G', '4G']],
  ['--platform', ['linux/amd64', 'linux/arm64']],
]);
const FILE_FLAGS = new Set(['--output', '--guest-init', '--config', '--containerd-address']);
const FILE_NAME = /-file$/;
const TRANSPORTS = new Map([
  ['builderd', ['docker://', 'oci:', 'oci-archive:', 'docker-archive:']],
  ['builderctl', ['docker://', 'git+https://', 'https://']],
]);
const SHELLS = ['bash', 'zsh', 'fish'];

/** A completion script made from the grammar itself, so that the two cannot differ. */
export function completionScript(shell: string, program: Command): string {
  const grammar: Grammar = {
    program: program.name(),
    root: wordOf(program, ''),
    words: program.commands.filter(isVisible).flatMap((command) => wordsOf(command, '')),
  };
  switch (shell) {
    case 'bash':
      return bashScript(grammar);
    case 'zsh':
      return zshScript(grammar);
    case 'fish':
      return fishScript(grammar);
    default:
      throw new BuilderdError(
        'usage.invalid',
        `Cannot complete for ${JSON.stringify(shell.slice(0, 40))}: want ${SHELLS.join(', ')}`,
      );
  }
}

function isVisible(command: Command): boolean {
  return command.parent?.createHelp().visibleCommands(command.parent).includes(command) ?? true;
}

function wordsOf(command: Command, above: string): readonly Word[] {
  const path = above === '' ? command.name() : `${above} ${command.name()}`;
  return [wordOf(command, path), ...command.commands.flatMap((each) => wordsOf(each, path))];
}

function wordOf(command: Command, path: string): Word {
  const options = command.createHelp().visibleOptions(command);
  return {
    path,
    about: command.description(),
    flags: options.filter(({ long }) => long !== undefined).map(flagOf),
    below: command.commands.filter(isVisible).map((each) => each.name()),
  };
}

function flagOf(option: Option): Flag {
  const long = option.long ?? '';
  return {
    long,
    short: option.short ?? undefined,
    about: option.description,
    values: option.argChoices ?? KNOWN_VALUES.get(long) ?? [],
    takesValue: option.required || option.optional,
    takesFile: FILE_FLAGS.has(long) || FILE_NAME.test(long),
  };
}

interface Grammar {
  readonly program: string;
  readonly root: Word;
  readonly words: readonly Word[];
}

/** Words that follow the command itself. */
function operands({ path, below }: Word, program: string): readonly string[] {
  if (below.length > 0) return below;
  if (path === 'build') return TRANSPORTS.get(program) ?? [];
  return path === 'completion' ? SHELLS : [];
}

function bashScript({ program, root, words }: Grammar): string {
  const cases = words.map((word) => {
    const flags = word.flags.map(({ long }) => long).join(' ');
    const list = operands(word, program).join(' ');
    return `    ${quote(word.path)}) flags=${quote(flags)}; operands=${quote(list)} ;;`;
  });
  const groups = words.filter(({ below }) => below.length > 0).map(({ path }) => quote(path));
  const byFlag = new Map<string, string>();
  for (const flag of [root, ...words].flatMap((word) => word.flags)) {
    const names = [flag.long, ...(flag.short === undefined ? [] : [flag.short])].join('|');
    if (flag.takesFile)
      byFlag.set(names, 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur"))');
    else if (flag.values.length > 0) {
      byFlag.set(names, `COMPREPLY=($(compgen -W ${quote(flag.values.join(' '))} -- "$cur"))`);
    } else if (flag.takesValue) byFlag.set(names, 'COMPREPLY=()');
  }
  const values = [...byFlag].map(([names, action]) => `    ${names}) ${action}; return ;;`);
  return `# bash completion for ${program}; load with: source <(${program} completion bash)
_${program}() {
  local cur prev command flags operands i
  cur=\${COMP_WORDS[COMP_CWORD]}
  prev=\${COMP_WORDS[COMP_CWORD-1]}
  # Colons separate words in bash; a transport is one word here.
  if declare -F _get_comp_words_by_ref >/dev/null; then _get_comp_words_by_ref -n : cur prev; fi
  case "$prev" in
${values.join('\n')}
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${COMP_WORDS[i]}" in -*) continue ;; esac
    # Below a command that holds others the next word names one of them.
    case "$command" in
      ${["''", ...groups].join('|')}) command=\${command:+$command }\${COMP_WORDS[i]} ;;
      *) break ;;
    esac
  done
  case "$command" in
${cases.join('\n')}
    *) flags=${quote(root.flags.map(({ long }) => long).join(' '))}; operands=${quote(root.below.join(' '))} ;;
  esac
  if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$flags" -- "$cur"))
  elif [[ $command == build && ( $cur == */* || $cur == .* ) ]]; then compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur"))
  else COMPREPLY=($(compgen -W "$operands" -- "$cur")); fi
  if [[ \${COMPREPLY[0]} == *: || \${COMPREPLY[0]} == */ ]]; then compopt -o nospace; fi
  if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}
complete -F _${program} ${program}
`;
}

function zshScript({ program, words }: Grammar): string {
  const top = words.filter(({ path }) => !path.includes(' '));
  const cases = top.map((word) => {
    const below = words.filter(({ path }) => path.startsWith(`${word.path} `));
    return below.length === 0
      ? `      ${word.path}) ${zshArguments(word, program)} ;;`
      : `      ${word.path}) _${program}_${word.path} ;;`;
  });
  const groups = top.filter(({ below }) => below.length > 0);
  const functions = groups.map((group) => {
    const below = words.filter(({ path }) => path.startsWith(`${group.path} `));
    const own = below.map((word) => `      ${lastWord(word)}) ${zshArguments(word, program)} ;;`);
    return zshFunction(`_${program}_${group.path}`, below, own);
  });
  return `#compdef ${program}
# zsh completion for ${program}; load with: source <(${program} completion zsh)
${functions.join('')}${zshFunction(`_${program}`, top, cases)}if [ "$funcstack[1]" = _${program} ]; then _${program} "$@"; else compdef _${program} ${program}; fi
`;
}

/** Describes the commands, then hands over to the one that was chosen. */
function zshFunction(name: string, words: readonly Word[], cases: readonly string[]): string {
  const commands = words.map((word) => `    ${quote(`${lastWord(word)}:${word.about}`)}`);
  return `${name}() {
  local -a commands
  local state
  commands=(
${commands.join('\n')}
  )
  _arguments -C '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands ;;
    argument)
      case $words[1] in
${cases.join('\n')}
      esac ;;
  esac
}
`;
}

function lastWord({ path }: Word): string {
  return path.slice(path.lastIndexOf(' ') + 1);
}

function zshArguments(word: Word, program: string): string {
  const specs = word.flags.map((flag) => `        ${quote(zshSpec(flag))}`);
  const list = operands(word, program).join(' ').replaceAll(':', '\\:');
  if (list !== '') specs.push(`        ${quote(`*:operand:(${list})`)}`);
  return `_arguments \\\n${specs.join(' \\\n')}`;
}

function zshSpec(flag: Flag): string {
  const about = flag.about.replace(/[[\]:\\]/g, '\\$&');
  const action = flag.takesFile
    ? '_files'
    : flag.values.length > 0
      ? `(${flag.values.join(' ')})`
      : ' ';
  const value = flag.takesValue ? `:value:${action}` : '';
  return `${flag.long}[${about}]${value}`;
}

function fishScript({ program, words }: Grammar): string {
  const top = words.filter(({ path }) => !path.includes(' '));
  const names = top.map(({ path }) => path).join(' ');
  const lines = [
    `# fish completion for ${program}; load with: ${program} completion fish | source`,
    `complete -c ${program} -f`,
  ];
  for (const word of words) {
    const [head = '', tail] = word.path.split(' ');
    const siblings = words.find(({ path }) => path === head)?.below.join(' ') ?? '';
    const seen =
      tail === undefined
        ? `"__fish_seen_subcommand_from ${head}"`
        : `"__fish_seen_subcommand_from ${head}; and __fish_seen_subcommand_from ${tail}"`;
    const none =
      tail === undefined
        ? `"not __fish_seen_subcommand_from ${names}"`
        : `"__fish_seen_subcommand_from ${head}; and not __fish_seen_subcommand_from ${siblings}"`;
    lines.push(`complete -c ${program} -n ${none} -a ${lastWord(word)} -d ${quote(word.about)}`);
    // What stands below a command says so itself, with what it is about.
    if (word.below.length > 0) continue;
    const list = operands(word, program);
    if (list.length > 0)
      lines.push(`complete -c ${program} -n ${seen} -a ${quote(list.join(' '))}`);
    for (const flag of word.flags) {
      const short = flag.short === undefined ? '' : ` -s ${flag.short.slice(1)}`;
      const value = flag.takesFile ? ' -r -F' : flag.takesValue ? ' -x' : '';
      const choices = flag.values.length > 0 ? ` -a ${quote(flag.values.join(' '))}` : '';
      const name = flag.long.slice(2);
      lines.push(
        `complete -c ${program} -n ${seen}${short} -l ${name}${value}${choices} -d ${quote(flag.about)}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

/** Single quotes work alike in the three shells for text without a backslash before the quote. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
