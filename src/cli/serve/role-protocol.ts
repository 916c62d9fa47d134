import type { Readable, Writable } from 'node:stream';
import { BuilderdError } from '../../core/errors.ts';

export const ROLES = ['api', 'executor'] as const;
export type RoleName = (typeof ROLES)[number];

export function isRole(name: string): name is RoleName {
  return ROLES.some((role) => role === name);
}

/** What the supervisor tells a role, on its standard input. It ends when the supervisor does. */
export type ToRole =
  | {
      readonly kind: 'start';
      readonly environment: Readonly<Record<string, string>>;
      /** Contents of the files that a role may no longer open later, by setting. */
      readonly files: Readonly<Record<string, string>>;
      /** Account to become; absent when the service was not started by root. */
      readonly identity?: Identity;
      readonly restarts: number;
      /** True when no other role runs on this host. */
      readonly alone: boolean;
    }
  | {
      readonly kind: 'reload';
      readonly environment: Readonly<Record<string, string>>;
      readonly files: Readonly<Record<string, string>>;
    };

export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly name: string;
}

/** What a role tells the supervisor, on descriptor 3. */
export type FromRole =
  | { readonly kind: 'ready' }
  | { readonly kind: 'alive' }
  | {
      readonly kind: 'reloaded';
      readonly applied: readonly string[];
      /** Changed in the file, in effect after a restart only. */
      readonly pending: readonly string[];
    }
  | { readonly kind: 'refused'; readonly message: string }
  | {
      readonly kind: 'fault';
      readonly message: string;
      /** True when the same start may succeed later: the supervisor tries again. */
      readonly retryable: boolean;
      readonly exit: number;
    };

/** A configuration with certificates; more is nobody's configuration. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;

export function sendLine(stream: Writable, message: ToRole | FromRole): void {
  if (stream.writable) stream.write(`${JSON.stringify(message)}\n`);
}

/** Whole lines as they come. Ends with the stream; throws for a line without end. */
export async function* readLines(stream: Readable): AsyncGenerator<string> {
  let rest = '';
  stream.setEncoding('utf8');
  for await (const chunk of stream) {
    rest += String(chunk);
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
    if (rest.length > MAX_LINE_BYTES) throw malformed();
  }
}

export function parseToRole(line: string): ToRole {
  const { kind, environment, files, identity, restarts, alone } = recordOf(JSON.parse(line));
  const told = { environment: textsOf(environment), files: textsOf(files) };
  if (kind === 'reload') return { kind, ...told };
  if (kind !== 'start' || typeof restarts !== 'number' || typeof alone !== 'boolean')
    throw malformed();
  return {
    kind,
    ...told,
    restarts,
    alone,
    ...(identity === undefined ? {} : { identity: parseIdentity(identity) }),
  };
}

/** The api is the less trusted side: its words are taken one by one. */
export function parseFromRole(line: string): FromRole {
  const message = recordOf(JSON.parse(line));
  switch (message['kind']) {
    case 'ready':
    case 'alive':
      return { kind: message['kind'] };
    case 'reloaded':
      return {
        kind: 'reloaded',
        applied: wordsOf(message['applied']),
        pending: wordsOf(message['pending']),
      };
    case 'refused':
      return { kind: 'refused', message: textOf(message['message']) };
    case 'fault': {
      const { retryable, exit } = message;
      if (typeof retryable !== 'boolean' || typeof exit !== 'number') throw malformed();
      return { kind: 'fault', message: textOf(message['message']), retryable, exit };
    }
    default:
      throw malformed();
  }
}

function parseIdentity(raw: unknown): Identity {
  const { uid, gid, name } = recordOf(raw);
  if (!Number.isInteger(uid) || !Number.isInteger(gid)) throw malformed();
  return { uid: Number(uid), gid: Number(gid), name: textOf(name) };
}

function recordOf(raw: unknown): Record<string, unknown> {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) throw malformed();
  return Object.fromEntries(Object.entries(raw));
}

function textsOf(raw: unknown): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [name, value] of Object.entries(recordOf(raw))) texts[name] = textOf(value);
  return texts;
}

function wordsOf(raw: unknown): string[] {
  if (!Array.isArray(raw) || raw.length > 1000) throw malformed();
  return raw.map((each) => textOf(each).slice(0, 100));
}

function textOf(raw: unknown): string {
  if (typeof raw !== 'string') throw malformed();
  return raw;
}

function malformed(): BuilderdError {
  return new BuilderdError('internal', 'Cannot read a message between two processes of builderd');
}
