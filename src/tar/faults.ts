import { type ByteString, escapeBytes } from '../core/bytes.ts';
import { BuilderdError } from '../core/errors.ts';

/** The archive breaks the format, or says two things at once. */
export function malformed(name: ByteString, fact: string): BuilderdError {
  return fault('archive.malformed', name, fact);
}

/** The archive is well formed, but larger than what is allowed. */
export function overLimit(name: ByteString, fact: string): BuilderdError {
  return fault('archive.limit', name, fact);
}

function fault(
  code: 'archive.malformed' | 'archive.limit',
  name: ByteString,
  fact: string,
): BuilderdError {
  const entry = escapeBytes(name);
  return new BuilderdError(code, `Cannot read tar entry "${entry}": ${fact}`, {
    details: { entry },
  });
}
