import { open } from 'node:fs/promises';
import { BuilderdError, errnoOf } from '../../../core/errors.ts';
import type { CtlHost } from '../ctl-host.ts';

const MAX_SECRET_BYTES = 64 * 1024;
const MAX_TEXT_BYTES = 1024 * 1024;
const MAX_TOKEN_CHARS = 8192;

/** What an Authorization header can carry. The text is never repeated. */
export function parseToken(raw: string): string {
  const token = raw.trim();
  if (token.length <= MAX_TOKEN_CHARS && /^[A-Za-z0-9._~+/-]+=*$/.test(token)) return token;
  throw new BuilderdError(
    'usage.invalid',
    'Cannot use the token: want one line of letters, digits and . _ ~ + / -',
  );
}

/** A secret without the line break that editors add. */
export async function readSecretFile(path: string): Promise<string> {
  return trimEnd(await readBounded(path, MAX_SECRET_BYTES));
}

export function readTextFile(path: string): Promise<string> {
  return readBounded(path, MAX_TEXT_BYTES);
}

export async function readSecretStdin(host: CtlHost): Promise<string> {
  const secret = trimEnd(await host.readStdin(MAX_SECRET_BYTES));
  if (secret !== '') return secret;
  throw new BuilderdError('usage.invalid', 'Cannot read the secret: standard input is empty');
}

/** One of a file and standard input, or neither. */
export async function readSecretOption(
  what: string,
  given: { readonly file?: string | undefined; readonly stdin?: boolean | undefined },
  host: CtlHost,
): Promise<string | undefined> {
  if (given.file !== undefined && given.stdin === true) {
    throw new BuilderdError(
      'usage.invalid',
      `Cannot read the ${what}: want --${what}-file or --${what}-stdin, not both`,
    );
  }
  if (given.stdin === true) return readSecretStdin(host);
  return given.file === undefined ? undefined : readSecretFile(given.file);
}

function trimEnd(text: string): string {
  return text.replace(/\r?\n$/, '');
}

async function readBounded(path: string, maxBytes: number): Promise<string> {
  try {
    await using handle = await open(path, 'r');
    const buffer = Buffer.alloc(maxBytes + 1);
    let size = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, size, buffer.length - size);
      if (bytesRead === 0) return buffer.toString('utf8', 0, size);
      size += bytesRead;
      if (size > maxBytes) break;
    }
  } catch (reason) {
    throw new BuilderdError(
      'usage.invalid',
      `Cannot read ${JSON.stringify(path)}: ${errnoOf(reason) ?? 'it failed'}`,
      { cause: reason },
    );
  }
  throw new BuilderdError(
    'usage.invalid',
    `Cannot read ${JSON.stringify(path)}: it is over ${maxBytes} bytes`,
  );
}
