import { BuilderdError } from '../../core/errors.ts';

/** For everything that no worker of ours says: it is broken, or somebody else's by now. */
export function brokenAnswer(fact: string, cause?: unknown): BuilderdError {
  return new BuilderdError(
    'internal',
    `Cannot use the worker's answer: ${fact}`,
    cause === undefined ? {} : { cause },
  );
}
