import { BuilderdError, isBuilderdError } from '../../../core/errors.ts';
import { canonicalHost } from '../../../egress/host.ts';

/** Docker Hub's names for itself; credentials are kept under the one that references use. */
const DOCKER_HUB = new Set(['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com']);

/**
 * One spelling of `host` or `host:port`; a port that is written is kept, so that a credential for
 * one service of a host is not sent to another. Throws `api.invalid`.
 */
export function canonicalCredentialHost(raw: string): string {
  const match = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]/]+)(?::([1-9]\d{0,4}))?$/.exec(raw);
  const port = match?.[2];
  if (match?.[1] === undefined || Number(port ?? 0) > 65_535) throw notAHost(raw);
  const host = canonicalOf(match[1], raw);
  const shown = host.includes(':') ? `[${host}]` : host;
  if (port !== undefined) return `${shown}:${port}`;
  return DOCKER_HUB.has(shown) ? 'docker.io' : shown;
}

function canonicalOf(host: string, raw: string): string {
  try {
    return canonicalHost(host);
  } catch (reason) {
    if (isBuilderdError(reason, 'source.invalid')) throw notAHost(raw);
    throw reason;
  }
}

function notAHost(raw: string): BuilderdError {
  // What stands there may be a URL with a password in it: only its shape is told.
  const fact =
    raw.includes('/') || raw.includes('@') ? 'no scheme, user or path' : 'host or host:port';
  return new BuilderdError('api.invalid', `Cannot use the host of a credential: want ${fact}`);
}
