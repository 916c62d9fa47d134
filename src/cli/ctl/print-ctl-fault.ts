import { asBuilderdError } from '../../core/errors.ts';
import type { Io } from '../io.ts';
import { oneLine } from '../print-fault.ts';
import { safeJson } from './client/bounded-json.ts';
import { RemoteFault } from './client/remote-fault.ts';

/** Hints of the catalogue that name the other program. */
const OUR_HINTS = new Map<string, string>([
  ['usage.invalid', 'See `builderctl --help` for what the command takes.'],
]);

/** Says what went wrong and what to do next; gives the exit code. Never a stack. */
export function printCtlFault(
  reason: unknown,
  io: Io,
  { json }: { readonly json: boolean },
): number {
  let inner = reason;
  // A failed cleanup wraps the fault that it followed; the user hears of the fault.
  while (inner instanceof SuppressedError) inner = inner.suppressed;
  const fault = asBuilderdError(inner, 'run the command');
  const { exit, fault: whose, retryable } = fault.entry;
  const hint = OUR_HINTS.get(fault.code) ?? fault.entry.hint;
  const isRemote = fault instanceof RemoteFault;
  if (json) {
    const code = isRemote ? fault.remoteCode : fault.code;
    const requestId = isRemote ? fault.requestId : undefined;
    const { message, details } = fault;
    const error = { code, message, hint, fault: whose, retryable, requestId, details };
    io.stdout.write(`${safeJson({ error })}\n`);
  } else {
    io.stderr.write(`builderctl: ${oneLine(fault.message)}\nnext: ${oneLine(hint)}\n`);
  }
  return exit;
}
