import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import { BuilderdError, messageOf } from '../core/errors.ts';
import type { PostgresTarget } from './postgres-url.ts';

/** What `tls.connect` wants, by libpq's meaning of the mode; false for a plain connection. */
export function tlsOptionsFor(target: PostgresTarget): false | tls.ConnectionOptions {
  const { host, sslMode } = target;
  if (sslMode === 'disable') return false;
  const own =
    target.sslCert === undefined || target.sslKey === undefined
      ? {}
      : { cert: readPem(target.sslCert, 'sslcert'), key: readPem(target.sslKey, 'sslkey') };
  // libpq: with an authority at hand, `require` checks the chain as `verify-ca` does.
  if (sslMode === 'require' && target.sslRootCert === undefined) {
    return { ...own, rejectUnauthorized: false };
  }
  return {
    ...own,
    ca: authorities(target.sslRootCert),
    rejectUnauthorized: true,
    // By the name that we asked for: Node would take another one for an IP address.
    checkServerIdentity: (_, certificate) =>
      sslMode === 'verify-full' ? tls.checkServerIdentity(host, certificate) : undefined,
  };
}

function authorities(file: string | undefined): string[] {
  if (file === undefined || file === 'system') {
    return [...new Set([...tls.getCACertificates('default'), ...tls.getCACertificates('system')])];
  }
  return [readPem(file, 'sslrootcert')];
}

function readPem(file: string, name: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (reason) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot read the file that ${name} of DATABASE_URL names: ${messageOf(reason)}`,
      { cause: reason },
    );
  }
}
