import { BuilderdError } from '../core/errors.ts';
import type { DatabaseConfig } from '../store/database.ts';
import type { Config } from './config.ts';

/**
 * DATABASE_URL wins over DATABASE_HOST and its companions. DATABASE_SSL_MODE counts for a URL that
 * says nothing of it: a wish for TLS must not be lost on the way.
 */
export function databaseConfig({ settings }: Pick<Config, 'settings'>): DatabaseConfig {
  if (settings.DATABASE_TYPE === 'sqlite') {
    return { type: 'sqlite', directory: settings.DATABASE_DATA_DIR };
  }
  const url = settings.DATABASE_URL === '' ? urlOf(settings) : URL.parse(settings.DATABASE_URL);
  // Its reader says what is wrong with it, without showing it.
  if (url === null) return { type: 'postgres', url: settings.DATABASE_URL };
  if (!url.searchParams.has('sslmode')) {
    url.searchParams.set('sslmode', settings.DATABASE_SSL_MODE);
  }
  return { type: 'postgres', url: url.href };
}

function urlOf(settings: Config['settings']): URL {
  const { DATABASE_HOST: host, DATABASE_PORT: port } = settings;
  // A socket's directory cannot stand in the place of a host.
  const isPath = host.startsWith('/');
  const authority = isPath
    ? 'localhost'
    : host.includes(':')
      ? `[${host.replace(/^\[(.*)\]$/, '$1')}]`
      : host;
  const url = URL.parse(`postgres://${authority}:${port}/`);
  if (url === null || url.pathname !== '/' || url.username !== '') {
    throw new BuilderdError(
      'config.invalid',
      'Cannot use UNKEY_BUILDERD_DATABASE_HOST: want a host name, an address or the directory of a socket',
    );
  }
  url.username = encodeURIComponent(settings.DATABASE_USERNAME);
  url.password = encodeURIComponent(settings.DATABASE_PASSWORD);
  url.pathname = encodeURIComponent(settings.DATABASE_NAME);
  if (isPath) url.searchParams.set('host', host);
  return url;
}
