import { BuilderdError } from '../core/errors.ts';

/**
 * One spelling for one host: lower case, punycode, no trailing dot, IPv4 in four decimals, IPv6
 * compressed and without brackets. Compare hosts only in this form.
 */
export type CanonicalHost = string & { readonly __brand: 'CanonicalHost' };

const NAME = /^(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*$/;

/** Throws `source.invalid` for user info, zone ids, percent escapes and anything not a host. */
export function canonicalHost(text: string): CanonicalHost {
  if (text.length === 0 || text.length > 255 || /[\s@/?#%\\]/.test(text)) throw notAHost(text);
  const bare = text.startsWith('[') || !text.includes(':') ? text : `[${text}]`;
  const url = URL.parse(`http://${bare}/`);
  // A port would survive in `host` only; user info was excluded above.
  if (url === null || url.port !== '') throw notAHost(text);
  return canonicalHostname(url.hostname, text);
}

/** The same for `hostname` of a parsed URL. */
export function canonicalHostOf(url: URL): CanonicalHost {
  return canonicalHostname(url.hostname, url.hostname);
}

function canonicalHostname(hostname: string, shown: string): CanonicalHost {
  if (hostname.startsWith('[') && hostname.endsWith(']')) {
    return hostname.slice(1, -1) as CanonicalHost;
  }
  const name = hostname.endsWith('.') ? hostname.slice(0, -1) : hostname;
  if (name.length > 253 || !NAME.test(name)) throw notAHost(shown);
  return name as CanonicalHost;
}

/**
 * Parses an absolute http or https URL without user info, with its host in canonical form.
 * Throws `source.invalid`.
 */
export function parseHttpUrl(text: string, base?: URL): URL {
  const url = text.length > 8192 ? null : URL.parse(text, base);
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new BuilderdError(
      'source.invalid',
      `Cannot use the address ${shownText(text)}: not http or https`,
    );
  }
  if (url.username !== '' || url.password !== '') {
    throw new BuilderdError('source.invalid', 'Cannot use an address that carries user info');
  }
  const host = canonicalHostOf(url);
  const wanted = host.includes(':') ? `[${host}]` : host;
  if (url.hostname !== wanted) url.hostname = wanted;
  return url;
}

/** The effective port. */
export function portOf(url: URL): number {
  if (url.port !== '') return Number(url.port);
  return url.protocol === 'https:' ? 443 : 80;
}

/** `host:port` with the port always written, for exact comparison of origins. */
export function hostPortOf(url: URL): string {
  return `${url.hostname}:${portOf(url)}`;
}

export function isSameOrigin(a: URL, b: URL): boolean {
  return a.protocol === b.protocol && hostPortOf(a) === hostPortOf(b);
}

function notAHost(text: string): BuilderdError {
  return new BuilderdError(
    'source.invalid',
    `Cannot use host ${shownText(text)}: not a host name or address`,
  );
}

function shownText(text: string): string {
  // User info may hold a password: never shown.
  return JSON.stringify(text.slice(0, 100).replace(/\/\/[^/]*@/, '//…@'));
}
