import { BuilderdError } from '../../../core/errors.ts';

export interface ServerUrl {
  readonly origin: string;
  /** Where a reverse proxy put the API: empty, or starting with a slash and ending without one. */
  readonly basePath: string;
  /** For people, and for contexts.json. */
  readonly shown: string;
  /** A token would be readable on the way. */
  readonly isPlain: boolean;
}

/** Throws `usage.invalid`; the text is not repeated when it may hold a password. */
export function parseServerUrl(raw: string): ServerUrl {
  const url = raw.length > 2048 ? null : URL.parse(raw);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw bad('want a URL such as https://builderd.example.com');
  }
  if (url.username !== '' || url.password !== '') {
    throw bad('a URL with a user name or password ends up in histories');
  }
  if (url.search !== '' || url.hash !== '') throw bad('want no query and no fragment');
  const basePath = url.pathname.replace(/\/+$/, '');
  return {
    origin: url.origin,
    basePath,
    shown: `${url.origin}${basePath}`,
    isPlain: url.protocol === 'http:' && !isLoopback(url.hostname),
  };
}

function bad(fact: string): BuilderdError {
  return new BuilderdError('usage.invalid', `Cannot use the address of the server: ${fact}`);
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(host);
}
