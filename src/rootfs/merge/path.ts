import { type ByteString, bytesOf, escapeBytes } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';

/** Linux NAME_MAX; every format that we write has the same limit. */
export const MAX_COMPONENT = 255;
export const MAX_DEPTH = 1024;
/** Linux follows at most 40 symlinks in one look-up, then says ELOOP. */
export const MAX_SYMLINK_HOPS = 40;

export const PARENT = bytesOf('..');
const CURRENT = bytesOf('.');

/**
 * Splits a name of a tar entry into clean components: empty ones and "." vanish, ".." takes back
 * the one before it. Throws `archive.path_escape` when ".." leaves the root (B1), `archive.limit`
 * for a component over 255 bytes or more than 1,024 of them (B40).
 */
export function splitEntryName(name: ByteString): ByteString[] {
  const parts: ByteString[] = [];
  for (const part of name.split('/') as ByteString[]) {
    if (part === '' || part === CURRENT) continue;
    if (part === PARENT) {
      if (parts.pop() !== undefined) continue;
      throw new BuilderdError(
        'archive.path_escape',
        `Cannot use archive entry "${escapeBytes(name)}": its name leaves the root`,
      );
    }
    checkComponent(part, name);
    parts.push(part);
  }
  if (parts.length > MAX_DEPTH) {
    throw new BuilderdError(
      'archive.limit',
      `Cannot use archive entry "${escapeBytes(name)}": it is more than ${MAX_DEPTH} levels deep`,
    );
  }
  return parts;
}

/**
 * Components of a link target, ".." kept: a symlink's meaning depends on the directories that
 * it passes. The root is its own parent, so a target can never leave the tree.
 */
export function splitTarget(target: ByteString): ByteString[] {
  return (target.split('/') as ByteString[]).filter((part) => part !== '' && part !== CURRENT);
}

export function isAbsolute(path: ByteString): boolean {
  return path.startsWith('/');
}

export function joinPath(parts: readonly ByteString[]): ByteString {
  return `/${parts.join('/')}` as ByteString;
}

function checkComponent(part: ByteString, name: ByteString): void {
  if (part.length <= MAX_COMPONENT) return;
  throw new BuilderdError(
    'archive.limit',
    `Cannot use archive entry "${escapeBytes(name)}": a component has ${part.length} bytes, at most ${MAX_COMPONENT} are possible`,
  );
}
