import { asBuilderdError } from '../../../src/core/errors.ts';
import type { HelperAnswer, HelperCall } from './helper-process.ts';

type Handler = (argument: never) => Promise<unknown>;

/** The other end of a HelperProcess: ends when its parent does. */
export function answerCalls(handlers: Readonly<Record<string, Handler>>): void {
  process.on('message', (call: HelperCall) => {
    void answer(handlers, call).then((result) => process.send?.(result));
  });
  process.on('disconnect', () => process.exit());
}

async function answer(
  handlers: Readonly<Record<string, Handler>>,
  { id, name, argument }: HelperCall,
): Promise<HelperAnswer> {
  try {
    const handler = handlers[name];
    if (handler === undefined) throw new Error(`there is no call ${name}`);
    // Both ends are of this folder.
    return { id, result: await handler(argument as never) };
  } catch (reason) {
    const { message, stack } = asBuilderdError(reason, `answer ${name}`);
    return { id, fault: stack ?? message };
  }
}
