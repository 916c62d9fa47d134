import { isIP } from 'node:net';

/** Host header to a bare lower-case name: no port, no brackets, no final dot. Undefined if malformed. */
export function hostNameOf(header: string): string | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::\d{1,5})?$/.exec(header);
  const name = match?.[1] ?? match?.[2];
  return name?.toLowerCase().replace(/\.$/, '');
}

const LOOPBACK = new Set(['localhost', '127.0.0.1', '::1']);

export function isLoopbackHost(name: string): boolean {
  return LOOPBACK.has(name) || /^127(?:\.\d{1,3}){3}$/.test(name);
}

/**
 * May a request name this host? A page whose name was rebound to our address is refused, as it
 * still sends its own name. Addresses are no names and cannot be rebound. An absent host is what
 * HTTP/1.0 health checks send, and no browser does.
 */
export function isAllowedHost(header: string | undefined, allowed: ReadonlySet<string>): boolean {
  if (header === undefined || header === '') return true;
  const name = hostNameOf(header);
  if (name === undefined) return false;
  return allowed.has('*') || isIP(name) !== 0 || isLoopbackHost(name) || allowed.has(name);
}

/** A page of another origin cannot read our answers, but could send: its requests say so. */
export function isCrossSite(headers: {
  readonly origin?: string | undefined;
  readonly fetchSite?: string | undefined;
  readonly host?: string | undefined;
}): boolean {
  if (headers.fetchSite === 'cross-site' || headers.fetchSite === 'same-site') return true;
  if (headers.origin === undefined) return false;
  const origin = URL.parse(headers.origin)?.host;
  return origin === undefined || origin === '' || origin !== headers.host?.toLowerCase();
}
