import { inspect } from 'node:util';
import { asBuilderdError, type BuilderdError } from '../core/errors.ts';
import type { Io } from './io.ts';

export interface FaultOptions {
  /** The answer for programs: one JSON object on stdout. */
  readonly json: boolean;
  /** Also the stack and the causes, on stderr. */
  readonly debug: boolean;
}

/** Tells the user what went wrong and what to do next; gives the exit code. */
export function printFault(reason: unknown, io: Io, { json, debug }: FaultOptions): number {
  const fault = toFault(reason);
  const { exit, hint, fault: whose, retryable } = fault.entry;
  if (json) {
    const { code, details } = fault;
    const error = { code, message: fault.message, hint, fault: whose, retryable, details };
    io.stdout.write(`${JSON.stringify({ error })}\n`);
  } else {
    io.stderr.write(`builderd: ${oneLine(fault.message)}\nnext: ${oneLine(hint)}\n`);
  }
  if (debug) {
    // A cause may quote foreign bytes as they are: each line is escaped like any other text.
    const lines = inspect(reason, { depth: 8 }).split('\n');
    io.stderr.write(`${lines.map(oneLine).join('\n')}\n`);
  }
  return exit;
}

/** A failed cleanup wraps the fault that it followed; the user hears of the fault. */
function toFault(reason: unknown): BuilderdError {
  let inner = reason;
  while (inner instanceof SuppressedError) inner = inner.suppressed;
  return asBuilderdError(inner, 'run the command');
}

/** Nothing that an image or a server says may move the cursor or start a second line. */
export function oneLine(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (char) =>
    Array.from(Buffer.from(char), (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join(''),
  );
}
