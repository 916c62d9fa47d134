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
  readonly name: string;
  readonly about: string;
  readonly flags: readonly Flag[];
}

/** Values of options that the grammar takes as free text. */
const KNOWN_VALUES = new Map<string, readonly string[]>([
  ['--format', ['ext4', 'tar', 'ext4,tar']],
  ['--pull', ['always', 'missing', 'never']],
  ['--size', ['min', 'min+64M', 'min+1G', '4G']],
  ['--platform', ['linux/amd64', 'linux/arm64']],
]);
const FILE_FLAGS = new Set(['--output', '--guest-init', '--config', '--containerd-address']);
const TRANSPORTS = ['docker://', 'oci:', 'oci-archive:', 'docker-archive:'];
const SHELLS = ['bash', 'zsh', 'fish'];

/** A completion script made from the grammar itself, so that the two cannot differ. */
export function completionScript(shell: string, program: Command): string {
  const words = program.commands.filter(isVisible).map(wordOf);
  switch (shell) {
    case 'bash':
      return bashScript(words);
    case 'zsh':
      return zshScript(words);
    case 'fish':
      return fishScript(words);
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

function wordOf(command: Command): Word {
  const options = command.createHelp().visibleOptions(command);
  return {
    name: command.name(),
    about: command.description(),
    flags: options.filter(({ long }) => long !== undefined).map(flagOf),
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
    takesFile: FILE_FLAGS.has(long),
  };
}

/** Words that follow the command itself. */
function operands(name: string): readonly string[] {
  if (name === 'build') return TRANSPORTS;
  if (name === 'completion') return SHELLS;
  return [];
}

function bashScript(words: readonly Word[]): string {
  const cases = words.map((word) => {
    const flags = word.flags.map(({ long }) => long).join(' ');
    return `    ${word.name}) flags=${quote(flags)}; operands=${quote(operands(word.name).join(' '))} ;;`;
  });
  const byFlag = new Map<string, string>();
  for (const flag of words.flatMap((word) => word.flags)) {
    const names = [flag.long, ...(flag.short === undefined ? [] : [flag.short])].join('|');
    if (flag.takesFile)
      byFlag.set(names, 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur"))');
    else if (flag.values.length > 0) {
      byFlag.set(names, `COMPREPLY=($(compgen -W ${quote(flag.values.join(' '))} -- "$cur"))`);
    } else if (flag.takesValue) byFlag.set(names, 'COMPREPLY=()');
  }
  const values = [...byFlag].map(([names, action]) => `    ${names}) ${action}; return ;;`);
  return `# bash completion for builderd; load with: source <(builderd completion bash)
_builderd() {
  local cur prev command flags operands i
  cur=\${COMP_WORDS[COMP_CWORD]}
  prev=\${COMP_WORDS[COMP_CWORD-1]}
  # Colons separate words in bash; a transport is one word here.
  if declare -F _get_comp_words_by_ref >/dev/null; then _get_comp_words_by_ref -n : cur prev; fi
  case "$prev" in
${values.join('\n')}
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${COMP_WORDS[i]}" in -*) ;; *) command=\${COMP_WORDS[i]}; break ;; esac
  done
  case "$command" in
${cases.join('\n')}
    *) flags='--help --version --validate-config --config'; operands=${quote(words.map(({ name }) => name).join(' '))} ;;
  esac
  if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$flags" -- "$cur"))
  elif [[ $command == build && ( $cur == */* || $cur == .* ) ]]; then compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur"))
  else COMPREPLY=($(compgen -W "$operands" -- "$cur")); fi
  if [[ \${COMPREPLY[0]} == *: || \${COMPREPLY[0]} == */ ]]; then compopt -o nospace; fi
  if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}
complete -F _builderd builderd
`;
}

function zshScript(words: readonly Word[]): string {
  const commands = words.map(({ name, about }) => `    ${quote(`${name}:${about}`)}`);
  const cases = words.map((word) => {
    const specs = word.flags.map((flag) => `        ${quote(zshSpec(flag))}`);
    const list = operands(word.name).join(' ').replaceAll(':', '\\:');
    if (list !== '') specs.push(`        ${quote(`*:operand:(${list})`)}`);
    return `      ${word.name}) _arguments \\\n${specs.join(' \\\n')} ;;`;
  });
  return `#compdef builderd
# zsh completion for builderd; load with: source <(builderd completion zsh)
_builderd() {
  local -a commands
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
if [ "$funcstack[1]" = _builderd ]; then _builderd "$@"; else compdef _builderd builderd; fi
`;
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

function fishScript(words: readonly Word[]): string {
  const names = words.map(({ name }) => name).join(' ');
  const lines = [
    '# fish completion for builderd; load with: builderd completion fish | source',
    'complete -c builderd -f',
  ];
  for (const word of words) {
    const none = `"not __fish_seen_subcommand_from ${names}"`;
    const seen = `"__fish_seen_subcommand_from ${word.name}"`;
    lines.push(`complete -c builderd -n ${none} -a ${word.name} -d ${quote(word.about)}`);
    const list = operands(word.name);
    if (list.length > 0) lines.push(`complete -c builderd -n ${seen} -a ${quote(list.join(' '))}`);
    for (const flag of word.flags) {
      const short = flag.short === undefined ? '' : ` -s ${flag.short.slice(1)}`;
      const value = flag.takesFile ? ' -r -F' : flag.takesValue ? ' -x' : '';
      const choices = flag.values.length > 0 ? ` -a ${quote(flag.values.join(' '))}` : '';
      const name = flag.long.slice(2);
      lines.push(
        `complete -c builderd -n ${seen}${short} -l ${name}${value}${choices} -d ${quote(flag.about)}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

/** Single quotes work alike in the three shells for text without a backslash before the quote. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
