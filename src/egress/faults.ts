import { BuilderdError, errnoOf, messageOf } from '../core/errors.ts';

const TLS_FAULTS =
  /^(?:CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH|ERR_TLS_|ERR_SSL_|EPROTO)/;
const NAME_FAULTS = new Set(['ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'EAI_NODATA', 'ENODATA']);

/** Turns any fault of a connection into our error; the only place that knows undici's codes. */
export function fromEgressFault(reason: unknown, doing: string): BuilderdError {
  if (reason instanceof BuilderdError) return reason;
  if (reason instanceof Error && reason.cause instanceof BuilderdError) return reason.cause;
  if (reason instanceof Error && reason.name === 'AbortError') {
    return new BuilderdError('build.cancelled', `Cannot ${doing}: it was cancelled`, {
      cause: reason,
    });
  }
  const code = errnoOf(reason) ?? '';
  if (code === 'UND_ERR_HEADERS_OVERFLOW') {
    return new BuilderdError(
      'source.invalid',
      `Cannot ${doing}: the answer's headers are too large`,
      {
        cause: reason,
      },
    );
  }
  if (TLS_FAULTS.test(code)) {
    return unreachable(doing, `its certificate or TLS is not acceptable (${code})`, reason, false);
  }
  if (NAME_FAULTS.has(code)) {
    return unreachable(
      doing,
      `the host name does not resolve (${code})`,
      reason,
      code === 'EAI_AGAIN',
    );
  }
  return unreachable(doing, code === '' ? messageOf(reason) : code, reason, true);
}

/** `transient` in the details says whether another try may help. */
export function unreachable(
  doing: string,
  fact: string,
  cause: unknown,
  transient: boolean,
): BuilderdError {
  return new BuilderdError('source.unreachable', `Cannot ${doing}: ${fact}`, {
    ...(cause === undefined ? {} : { cause }),
    details: { transient },
  });
}

export function isTransient(reason: unknown): boolean {
  return (
    reason instanceof BuilderdError &&
    reason.code === 'source.unreachable' &&
    reason.details['transient'] !== false
  );
}
