import { BuilderdError, errnoOf, isBuilderdError } from '../../../core/errors.ts';
import type { ServerUrl } from './server-url.ts';

const FACTS = new Map<string, string>([
  ['ECONNREFUSED', 'nothing listens there'],
  ['EAI_AGAIN', 'its name cannot be looked up now'],
  ['EHOSTUNREACH', 'no way leads to the host'],
  ['ENETUNREACH', 'no way leads to the network'],
  ['ETIMEDOUT', 'it did not answer in time'],
  ['UND_ERR_CONNECT_TIMEOUT', 'it did not answer in time'],
  ['UND_ERR_HEADERS_TIMEOUT', 'it did not answer in time'],
  ['UND_ERR_BODY_TIMEOUT', 'it fell silent in the middle of its answer'],
  ['ECONNRESET', 'the connection was cut'],
  ['EPIPE', 'the connection was cut'],
  ['UND_ERR_SOCKET', 'the connection was cut'],
  ['UND_ERR_ABORTED', 'the proxy of HTTPS_PROXY did not let it through'],
  ['UND_ERR_PRX_TLS', 'the certificate of the proxy of HTTPS_PROXY is not trusted'],
  ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', 'the connection was cut'],
]);

/** What waiting does not mend: the other side speaks another language, or is not who it says. */
const PERMANENT = new Map<string, string>([
  ['ENOTFOUND', 'there is no host of this name'],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', untrusted('unknown authority')],
  ['UNABLE_TO_GET_ISSUER_CERT', untrusted('unknown authority')],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', untrusted('unknown authority')],
  ['SELF_SIGNED_CERT_IN_CHAIN', untrusted('unknown authority')],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', untrusted('self-signed')],
  ['CERT_HAS_EXPIRED', untrusted('expired')],
  ['CERT_NOT_YET_VALID', untrusted('not yet valid')],
  ['ERR_TLS_CERT_ALTNAME_INVALID', untrusted('for another name')],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'it does not speak TLS; is it http:// there?'],
  ['ERR_SSL_PACKET_LENGTH_TOO_LONG', 'it does not speak TLS; is it http:// there?'],
  ['UND_ERR_HEADERS_OVERFLOW', 'its headers are too large'],
]);

function untrusted(fact: string): string {
  return `its certificate is not trusted (${fact}); --ca-file names the authority to trust`;
}

/** Translates the faults of undici, of sockets and of TLS; the only place that knows their names. */
export function connectionFault(
  reason: unknown,
  about: { readonly doing: string; readonly server: ServerUrl; readonly signal: AbortSignal },
): BuilderdError {
  const { doing, server, signal } = about;
  const told: unknown = signal.aborted ? signal.reason : reason;
  if (isBuilderdError(told)) return told;
  const code = errnoOf(told) ?? '';
  const permanent = PERMANENT.get(code) ?? (isNoHttp(told) ? 'it does not speak HTTP' : undefined);
  if (permanent !== undefined) {
    return new BuilderdError('server.invalid', `Cannot ${doing} at ${server.shown}: ${permanent}`, {
      cause: reason,
    });
  }
  const isLate = told instanceof Error && told.name === 'TimeoutError';
  const fact = isLate
    ? 'it did not answer in time'
    : (FACTS.get(code) ?? `the connection failed${code === '' ? '' : ` (${code})`}`);
  return new BuilderdError('server.unreachable', `Cannot ${doing} at ${server.shown}: ${fact}`, {
    cause: reason,
  });
}

/** Undici's parser fault has a code for some of its findings only. */
function isNoHttp(reason: unknown): boolean {
  return reason instanceof Error && reason.name === 'HTTPParserError';
}
