import { type ByteString, escapeBytes } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { TarEntry, Timestamp } from '../../tar/entry.ts';
import type { FidelityLog } from '../fidelity.ts';
import type { Inode, Xattr } from '../tree.ts';
import { NO_XATTRS } from './node.ts';
import { joinPath, splitEntryName } from './path.ts';

/** ext4 with 256-byte inodes: 34 bits of seconds from -2^31 (kernel, ext4 "Inode Timestamps"). */
const MIN_SEC = -(2 ** 31);
const MAX_SEC = 2 ** 34 - 2 ** 31 - 1;

/** Values of one inode (as for one entry of an archive), and Linux's XATTR_LIST_MAX. */
const MAX_XATTR_BYTES = 256 * 1024;
const MAX_XATTR_LIST_BYTES = 64 * 1024;

export interface MetadataPolicy {
  /** Later modification times become this many seconds since 1970. */
  readonly sourceDateEpoch: number | undefined;
}

/** Puts a header's owner, mode, times and xattrs on an inode, as the last entry for it wins. */
export function applyMetadata(
  inode: Inode & { xattrs: readonly Xattr[] },
  entry: TarEntry,
  policy: MetadataPolicy,
  fidelity: FidelityLog,
): void {
  if (inode.kind === 'symlink') inode.mode = 0o777;
  else inode.mode = entry.mode;
  inode.uid = entry.uid;
  inode.gid = entry.gid;
  const mtime = boundTime(entry.mtime, entry, policy, fidelity);
  inode.mtimeSec = mtime.sec;
  inode.mtimeNsec = mtime.nsec;
  const atime =
    entry.atime === undefined
      ? mtime
      : later(boundTime(entry.atime, entry, policy, fidelity), mtime);
  inode.atimeSec = atime.sec;
  inode.atimeNsec = atime.nsec;
  inode.xattrs = mergeXattrs(inode.xattrs, entry, fidelity);
}

function later(a: Timestamp, b: Timestamp): Timestamp {
  return a.sec > b.sec || (a.sec === b.sec && a.nsec > b.nsec) ? a : b;
}

function boundTime(
  time: Timestamp,
  entry: TarEntry,
  policy: MetadataPolicy,
  fidelity: FidelityLog,
): Timestamp {
  const epoch = policy.sourceDateEpoch;
  if (epoch !== undefined && (time.sec > epoch || (time.sec === epoch && time.nsec > 0))) {
    fidelity.note('time_clamped_to_epoch', () => joinPath(splitEntryName(entry.name)));
    return { sec: epoch, nsec: 0 };
  }
  if (time.sec >= MIN_SEC && time.sec <= MAX_SEC) return time;
  fidelity.note('time_clamped', () => joinPath(splitEntryName(entry.name)));
  return time.sec < MIN_SEC ? { sec: MIN_SEC, nsec: 0 } : { sec: MAX_SEC, nsec: 999_999_999 };
}

/**
 * Later values win by name; overlayfs's own attributes never reach a result (B17). Many names of
 * one inode may each bring an attribute, so the limit of an inode is checked here too (B18), and
 * one more attribute costs a copy of a short list, not a sort.
 */
function mergeXattrs(
  before: readonly Xattr[],
  entry: TarEntry,
  fidelity: FidelityLog,
): readonly Xattr[] {
  if (entry.xattrs.length === 0) return before;
  const merged = [...before];
  for (const xattr of entry.xattrs) {
    if (/^(?:trusted|user)\.overlay\./.test(xattr.name)) {
      fidelity.note('overlay_xattr_dropped', () => joinPath(splitEntryName(entry.name)));
      continue;
    }
    const at = positionOf(merged, xattr.name);
    merged.splice(at, merged[at]?.name === xattr.name ? 1 : 0, xattr);
  }
  if (merged.length === 0) return NO_XATTRS;
  if (before.length > 0) checkXattrs(merged, entry);
  return merged;
}

/** Where a name is, or would be, in a list sorted by name. */
function positionOf(xattrs: readonly Xattr[], name: ByteString): number {
  let low = 0;
  let high = xattrs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((xattrs[middle]?.name ?? name) < name) low = middle + 1;
    else high = middle;
  }
  return low;
}

function checkXattrs(xattrs: readonly Xattr[], entry: TarEntry): void {
  let valueBytes = 0;
  let nameBytes = 0;
  for (const { name, value } of xattrs) {
    valueBytes += value.length;
    nameBytes += name.length + 1;
  }
  if (valueBytes <= MAX_XATTR_BYTES && nameBytes <= MAX_XATTR_LIST_BYTES) return;
  throw new BuilderdError(
    'archive.limit',
    `Cannot use archive entry "${escapeBytes(entry.name)}": all its names together bring it more extended attributes than one file can have`,
  );
}
