import { BuilderdError, isBuilderdError } from '../../../core/errors.ts';
import { parseAddress } from '../../../egress/address.ts';
import type { EgressAllowList } from '../../../egress/allow-list.ts';
import { canonicalHostOf, parseHttpUrl, portOf } from '../../../egress/host.ts';

const MAX_URL = 2048;

/**
 * A URL that builderd is willing to call. Names are checked again when they are dialled: what they
 * stand for may change. Throws `api.invalid`.
 */
export function parseWebhookUrl(
  raw: string,
  {
    allowHttp,
    egressAllow,
  }: { readonly allowHttp: boolean; readonly egressAllow: EgressAllowList },
): URL {
  if (raw.length > MAX_URL) throw invalid(`it is over ${MAX_URL} characters`);
  const url = parseUrl(raw);
  if (url.protocol !== 'https:' && !allowHttp) throw invalid('want https');
  if (url.hash !== '') throw invalid('want no fragment');
  const host = canonicalHostOf(url);
  const address = parseAddress(host);
  const isRefused =
    address !== undefined && !egressAllow.permits({ host, address, port: portOf(url) });
  if (isRefused) throw invalid('its address is not public');
  return url;
}

function parseUrl(raw: string): URL {
  try {
    return parseHttpUrl(raw);
  } catch (reason) {
    if (isBuilderdError(reason, 'source.invalid')) {
      throw invalid('want an absolute http or https URL without user info');
    }
    throw reason;
  }
}

/** The URL itself may hold a secret: it is not shown. */
function invalid(fact: string): BuilderdError {
  return new BuilderdError('api.invalid', `Cannot use the URL of a webhook: ${fact}`);
}
