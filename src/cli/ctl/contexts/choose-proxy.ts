import { BuilderdError } from '../../../core/errors.ts';
import type { ProxyChoice } from '../client/connection.ts';
import type { ServerUrl } from '../client/server-url.ts';
import type { CtlHost } from '../ctl-host.ts';

/**
 * The proxy of HTTPS_PROXY and NO_PROXY, written in either case. Only for https: through a tunnel it
 * sees nothing, while a token on its way to an http server would be its to read. Throws
 * `usage.invalid`; the address is not repeated, for it may hold a password.
 */
export function chooseProxy(server: ServerUrl, { env }: CtlHost): ProxyChoice | undefined {
  const text = env['https_proxy'] ?? env['HTTPS_PROXY'] ?? '';
  if (text === '' || !server.origin.startsWith('https:')) return undefined;
  const url = URL.parse(text.includes('://') ? text : `http://${text}`);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new BuilderdError(
      'usage.invalid',
      'Cannot use HTTPS_PROXY: want a URL such as http://proxy.example.com:3128',
    );
  }
  return { url: url.href, except: env['no_proxy'] ?? env['NO_PROXY'] ?? '' };
}
