import { constants } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { BuilderdError, errnoOf, isBuilderdError } from '../../../core/errors.ts';
import { newId } from '../../../core/ids.ts';
import { parseJson } from '../client/bounded-json.ts';
import { map, object, optional, type Parsed, text } from '../client/fields.ts';
import type { CtlHost } from '../ctl-host.ts';

const context = object({
  server: text,
  token: optional(text),
  tenant: optional(text),
  caFile: optional(text),
  certFile: optional(text),
  keyFile: optional(text),
});
export type Context = Parsed<typeof context>;

const file = object({ current: optional(text), contexts: map(context) });

export interface Contexts {
  readonly current: string | undefined;
  readonly contexts: ReadonlyMap<string, Context>;
}

const MAX_BYTES = 1024 * 1024;
const NO_CONTEXTS: Contexts = { current: undefined, contexts: new Map() };

export function contextsPath({ env, homeDirectory }: CtlHost): string {
  const base = env['XDG_CONFIG_HOME'];
  // The specification wants relative paths ignored.
  const root = base !== undefined && isAbsolute(base) ? base : join(homeDirectory, '.config');
  return join(root, 'builderd', 'contexts.json');
}

/** None when there is no file. Throws `usage.invalid` for one that others may read or have written. */
export async function readContexts(host: CtlHost): Promise<Contexts> {
  const path = contextsPath(host);
  let handle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (reason) {
    if (errnoOf(reason) === 'ENOENT') return NO_CONTEXTS;
    throw new BuilderdError(
      'usage.invalid',
      `Cannot read ${path}: ${errnoOf(reason) ?? 'it failed'}`,
      {
        cause: reason,
      },
    );
  }
  await using opened = handle;
  const { mode, uid, size } = await opened.stat();
  const fact =
    (mode & 0o077) !== 0
      ? `others may read it; run chmod 600 ${path}`
      : uid !== host.userId
        ? 'it belongs to another user'
        : size > MAX_BYTES
          ? `it is over ${MAX_BYTES} bytes`
          : undefined;
  if (fact !== undefined) throw new BuilderdError('usage.invalid', `Cannot use ${path}: ${fact}`);
  try {
    const { current, contexts } = file(parseJson(await opened.readFile('utf8')), 'it');
    return { current, contexts: new Map(Object.entries(contexts)) };
  } catch (reason) {
    if (!isBuilderdError(reason, 'server.invalid')) throw reason;
    throw new BuilderdError(
      'usage.invalid',
      `Cannot use ${path}: it does not hold contexts; move it away and log in again`,
    );
  }
}

/** Replaces the file as a whole; it is never readable by others, not for a moment. */
export async function writeContexts(
  host: CtlHost,
  { current, contexts }: Contexts,
): Promise<string> {
  const path = contextsPath(host);
  const directory = dirname(path);
  const text = `${JSON.stringify({ current, contexts: Object.fromEntries(contexts) }, undefined, 2)}\n`;
  const temporary = join(directory, `.contexts.${newId()}`);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    {
      await using handle = await open(temporary, 'wx', 0o600);
      // A umask can only take rights away; this is for file systems that add some.
      await handle.chmod(0o600);
      await handle.writeFile(text);
      await handle.sync();
    }
    await rename(temporary, path);
  } catch (reason) {
    await rm(temporary, { force: true });
    throw new BuilderdError(
      errnoOf(reason) === 'ENOSPC' ? 'storage.full' : 'host.permission',
      `Cannot write ${path}: ${errnoOf(reason) ?? 'it failed'}`,
      { cause: reason },
    );
  }
  return path;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

export function parseContextName(raw: string): string {
  if (NAME.test(raw)) return raw;
  throw new BuilderdError(
    'usage.invalid',
    `Cannot use ${JSON.stringify(raw.slice(0, 80))} as a name of a context: want letters, digits, dots, dashes`,
  );
}
