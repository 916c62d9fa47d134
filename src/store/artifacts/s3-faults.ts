import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { isTransient } from '../../egress/faults.ts';

/** The one translation of what an object store answers. Neither URL nor key id gets into the text. */
export function answerFault(status: number, body: string, doing: string): BuilderdError {
  const code = /<Code>([A-Za-z0-9.]{1,64})<\/Code>/.exec(body)?.[1] ?? 'no code';
  const fact = `the object store answered ${status} (${code})`;
  if (isPassing(status)) {
    return new BuilderdError('service.unavailable', `Cannot ${doing}: ${fact}`);
  }
  if (status === 404) return new BuilderdError('artifact.missing', `Cannot ${doing}: ${fact}`);
  return new BuilderdError('storage.failed', `Cannot ${doing}: ${fact}`);
}

/** Faults of the way there: the egress room words them as those of a source. */
export function wayFault(reason: unknown, doing: string): unknown {
  const isWay =
    isBuilderdError(reason, 'source.unreachable') ||
    isBuilderdError(reason, 'source.invalid') ||
    isBuilderdError(reason, 'source.denied_address');
  if (!isWay) return reason;
  // A certificate, a name or an address that is wrong is wrong the next time too.
  const code = isTransient(reason) ? 'service.unavailable' : 'storage.failed';
  const text = `Cannot ${doing}: the object store cannot be reached`;
  return new BuilderdError(code, text, { cause: reason });
}

/** Answers after which the same request may well succeed. */
export function isPassing(status: number): boolean {
  return [408, 429, 500, 502, 503, 504].includes(status);
}
