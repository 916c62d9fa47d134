import { Command, InvalidArgumentError, Option } from 'commander';
import { BuilderdError } from '../../core/errors.ts';
import type { CtlHost } from './ctl-host.ts';
import type { Session, SessionOptions } from './session.ts';

/** What the parts of the grammar share. */
export interface Grammar {
  readonly host: CtlHost;
  /** Set by a command whose exit code is its answer. */
  readonly outcome: { exitCode: number };
}

/** A command that only holds others. */
export function group(name: string, about: string, commands: readonly Command[]): Command {
  const command = new Command(name).description(about).helpCommand(false);
  for (const each of commands) command.addCommand(each);
  return command;
}

/** A command that asks a server. */
class ServerCommand extends Command {}

export function serverCommand(name: string, about: string): Command {
  return new ServerCommand(name).description(about);
}

const COMMON_OPTIONS: readonly (readonly [flags: string, about: string])[] = [
  ['--json', 'print JSON, errors too'],
  ['--context <name>', 'a context of `builderctl login`'],
  ['--tenant <name>', 'act for this tenant'],
  ['--server <url>', 'address of the service'],
  ['--token-file <file>', 'read the token from this file'],
  ['--ca-file <file>', 'trust this authority (PEM)'],
];

/** Whether every command has this option. */
export function isCommonOption(long: string): boolean {
  return COMMON_OPTIONS.some(([flags]) => flags.split(' ', 1)[0] === long);
}

/** `--json` and the options that say which server, as whom; called last, so that help shows them last. */
export function addCommonOptions(command: Command): void {
  if (!(command instanceof ServerCommand)) return;
  for (const [flags, about] of COMMON_OPTIONS) {
    command.addOption(new Option(flags, about).helpGroup('Options of every command:'));
  }
}

/** Opens the session, runs the work, closes the session. The code for it is loaded only now. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- commander has no type for the options that it read: the caller declares them
export function withServer<O>(
  { host }: Grammar,
  work: (session: Session, options: O, args: readonly string[]) => Promise<void>,
): (this: Command) => Promise<void> {
  return async function run(this: Command): Promise<void> {
    const options = this.opts<SessionOptions & O>();
    const { openSession } = await import('./session.ts');
    await using session = await openSession(options, host);
    await work(session, options, this.args);
  };
}

/** For options that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

/** Like `collect`, for options with a fixed set of words. */
export function oneOrMore(
  words: readonly string[],
): (value: string, before: readonly string[] | undefined) => readonly string[] {
  return (value, before) => {
    if (words.includes(value)) return collect(value, before);
    throw new InvalidArgumentError(`Allowed choices are ${words.join(', ')}.`);
  };
}

export function wholeNumber(
  min: number,
  max: number = Number.MAX_SAFE_INTEGER,
): (value: string) => number {
  return (value) => {
    const number = /^-?\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= min && number <= max) return number;
    throw new InvalidArgumentError(`Want a whole number from ${min} to ${max}.`);
  };
}

/** `key=value` texts to a record; throws `usage.invalid`. */
export function parsePairs(
  texts: readonly string[],
  what: string,
): Readonly<Record<string, string>> {
  const pairs = new Map<string, string>();
  for (const text of texts) {
    const at = text.indexOf('=');
    const key = text.slice(0, Math.max(at, 0));
    if (key === '' || key === '__proto__' || pairs.has(key)) {
      throw new BuilderdError(
        'usage.invalid',
        `Cannot use ${what} ${JSON.stringify(text.slice(0, 100))}: want key=value, each key once`,
      );
    }
    pairs.set(key, text.slice(at + 1));
  }
  return Object.fromEntries(pairs);
}

const DURATIONS = new Map([
  ['s', 1],
  ['m', 60],
  ['h', 3600],
  ['d', 86_400],
]);

/** `90s`, `15m`, `1h30m`, `30d` in whole seconds; throws `usage.invalid`. */
export function parseSeconds(text: string, what: string): number {
  const isWhole = /^(?:\d{1,9}[smhd])+$/.test(text);
  let total = 0;
  for (const [, amount, unit = ''] of text.matchAll(/(\d+)([smhd])/g)) {
    total += Number(amount) * (DURATIONS.get(unit) ?? Number.NaN);
  }
  if (isWhole && Number.isSafeInteger(total)) return total;
  throw new BuilderdError(
    'usage.invalid',
    `Cannot use ${what} ${JSON.stringify(text.slice(0, 40))}: want a duration such as 90s, 15m, 1h30m or 30d`,
  );
}
