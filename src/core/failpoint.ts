import { setTimeout as sleep } from 'node:timers/promises';
import { ERRORS, type ErrorCode } from './error-catalogue.ts';
import { BuilderdError } from './errors.ts';

/**
 * Named places where a test may break the program: between two durable effects, where a crash or a
 * fault would hurt most. In service they do nothing.
 */
export interface Failpoints {
  /** Returns at once unless the name was given an action. */
  hit(name: string): Promise<void>;
}

export const NO_FAILPOINTS: Failpoints = { hit: async () => undefined };

type Action =
  | { readonly kind: 'off' }
  | { readonly kind: 'error'; readonly code: ErrorCode }
  | { readonly kind: 'delay'; readonly ms: number }
  | { readonly kind: 'kill9' };

interface Term {
  /** How often it acts before the next term takes over. */
  left: number;
  readonly action: Action;
}

export interface FailpointHost {
  /** Ends this process as a power cut would: no handler, no flush. */
  readonly kill: () => void;
}

const SELF: FailpointHost = { kill: () => process.kill(process.pid, 'SIGKILL') };

/**
 * `name=term->term;name=term`, where a term is `[count*]action` and an action one of `off`,
 * `error(code)`, `delay(ms)`, `kill9`. Terms act in turn, each `count` times; without a count for
 * ever; after the last one nothing happens any more. `pulled=2*off->1*kill9` dies at the third hit.
 * Throws `config.invalid`.
 */
export function parseFailpoints(text: string, host: FailpointHost = SELF): Failpoints {
  const points = new Map<string, Term[]>();
  for (const part of text.split(';').map((one) => one.trim())) {
    if (part === '') continue;
    const [, name, terms] = /^([a-z0-9.-]+)=(.+)$/.exec(part) ?? [];
    if (name === undefined || terms === undefined) throw badFailpoint(part);
    points.set(name, terms.split('->').map(parseTerm));
  }
  return {
    async hit(name) {
      const term = points.get(name)?.find((one) => one.left > 0);
      if (term === undefined) return;
      term.left -= 1;
      await act(term.action, name, host);
    },
  };
}

async function act(action: Action, name: string, host: FailpointHost): Promise<void> {
  switch (action.kind) {
    case 'off':
      return;
    case 'error':
      throw new BuilderdError(action.code, `Cannot go on: failpoint ${name} was hit`);
    case 'delay':
      await sleep(action.ms);
      return;
    case 'kill9':
      host.kill();
      // The signal may need a moment to arrive; nothing may happen after it.
      await sleep(60_000, undefined, { ref: false });
  }
}

function parseTerm(text: string): Term {
  const [, count, action = ''] = /^(?:(\d{1,6})\*)?(.+)$/.exec(text.trim()) ?? [];
  return { left: count === undefined ? Infinity : Number(count), action: parseAction(action) };
}

function parseAction(text: string): Action {
  const [, word, argument] = /^([a-z0-9]+)(?:\(([a-z0-9._]*)\))?$/.exec(text) ?? [];
  if (word === 'off' && argument === undefined) return { kind: 'off' };
  if (word === 'kill9' && argument === undefined) return { kind: 'kill9' };
  if (word === 'delay' && argument !== undefined && /^\d{1,6}$/.test(argument)) {
    return { kind: 'delay', ms: Number(argument) };
  }
  if (word === 'error') return { kind: 'error', code: parseCode(argument ?? 'internal', text) };
  throw badFailpoint(text);
}

function parseCode(code: string, text: string): ErrorCode {
  if (isErrorCode(code)) return code;
  throw badFailpoint(text);
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(ERRORS, code);

function badFailpoint(text: string): BuilderdError {
  return new BuilderdError(
    'config.invalid',
    `Cannot use failpoint ${JSON.stringify(text.slice(0, 100))}: want name=[count*]action->…, where action is off, error(code), delay(ms) or kill9`,
  );
}
