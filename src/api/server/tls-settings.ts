import { BuilderdError, messageOf } from '../../core/errors.ts';
import { createSecureContext } from 'node:tls';

/** PEM texts, already read: the process that serves may not be able to open the files. */
export interface TlsSettings {
  readonly cert: string;
  readonly key: string;
  /** When given, clients must show a certificate that one of these authorities signed. */
  readonly clientCa?: string;
}

export interface TlsContextOptions {
  readonly cert: string;
  readonly key: string;
  readonly minVersion: 'TLSv1.2';
  readonly ca?: string;
}

/** Throws `config.invalid` for a certificate and key that do not fit; nothing secret is in the message. */
export function tlsContextOptions(tls: TlsSettings): TlsContextOptions {
  const options = {
    cert: tls.cert,
    key: tls.key,
    minVersion: 'TLSv1.2',
    ...(tls.clientCa === undefined ? {} : { ca: tls.clientCa }),
  } as const;
  try {
    createSecureContext(options);
  } catch (reason) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot use the TLS certificate and key of the API: ${messageOf(reason)}`,
    );
  }
  return options;
}
