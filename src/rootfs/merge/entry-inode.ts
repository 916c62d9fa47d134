import type { TarEntry, Timestamp } from '../../tar/entry.ts';
import type { FidelityLog } from '../fidelity.ts';
import type { Inode, Xattr } from '../tree.ts';
import { NO_XATTRS } from './node.ts';
import { joinPath, splitEntryName } from './path.ts';

/** ext4 with 256-byte inodes: 34 bits of seconds from -2^31 (kernel, ext4 "Inode Timestamps"). */
const MIN_SEC = -(2 ** 31);
const MAX_SEC = 2 ** 34 - 2 ** 31 - 1;

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

/** Later values win by name; overlayfs's own attributes never reach a result (B17). */
function mergeXattrs(
  before: readonly Xattr[],
  entry: TarEntry,
  fidelity: FidelityLog,
): readonly Xattr[] {
  if (entry.xattrs.length === 0) return before;
  const byName = new Map(before.map((xattr) => [xattr.name, xattr]));
  for (const xattr of entry.xattrs) {
    if (/^(?:trusted|user)\.overlay\./.test(xattr.name)) {
      fidelity.note('overlay_xattr_dropped', () => joinPath(splitEntryName(entry.name)));
    } else byName.set(xattr.name, xattr);
  }
  if (byName.size === 0) return NO_XATTRS;
  return [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}
