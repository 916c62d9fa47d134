import { createRequire } from 'node:module';
import path from 'node:path';

/** A handle that only the addon can look into. */
export type Handle = { readonly __brand: 'AddonHandle' };

export interface FillResult {
  readonly length: number;
  readonly bytesIn: number;
}

/**
 * System calls and hot loops that Node lacks (native/addon/*.c). Promise-returning functions run
 * on libuv's pool; their buffers must not be touched until the promise settles.
 * Errors carry `code`: an errno name, or ERR_GZIP, ERR_GZIP_TRUNCATED, ERR_GZIP_TRAILING,
 * ERR_STREAM_FAILED for a fill after one that failed.
 */
export interface Addon {
  /** Whether isa-l is on this host; it is mapped into this process from then on. */
  loadIsal(): boolean;
  /** Reads by position, from the file's start. Null when isa-l is not on this host (gzip only). */
  layerStreamOpen(fd: number, gzip: boolean): Handle | null;
  /**
   * Fills up to `capacity` bytes; fewer only at the end. Several may be under way: they run in the
   * order of the calls. `bytesIn`: packed bytes read by then.
   */
  layerStreamFill(handle: Handle, into: Buffer, capacity: number): Promise<FillResult>;
  /** Digest of the packed bytes read so far. No fill may be under way. */
  layerStreamResult(handle: Handle): { digest: Buffer };
  hasherOpen(): Handle;
  /** Several may be under way: they run in the order of the calls. */
  hasherUpdate(handle: Handle, bytes: Buffer, length: number): Promise<number>;
  hasherDigest(handle: Handle): Buffer;
  /** SHA-256 of the first `size` bytes; holes are not read. Moves the descriptor's offset. */
  sha256File(fd: number, size: number): Promise<Buffer>;
  /**
   * Writes `count` pieces [file offset, buffer offset, length]; a piece that ends inside a 4 KiB
   * block is padded with zeros to its end.
   */
  writePieces(fd: number, source: Buffer, pieces: Float64Array, count: number): Promise<number>;
  /** Zeroed memory that starts at a page, as O_DIRECT wants it (open(2)). At least 4096 bytes. */
  alignedBuffer(size: number): Buffer;
  /** The same triples the other way round; a piece beyond the end of the file is ENODATA. */
  readPieces(fd: number, target: Buffer, pieces: Float64Array, count: number): Promise<number>;
  /** Asks the kernel to begin writing a range to disk (sync_file_range(2)); a hint only. */
  startWriteback(fd: number, offset: number, length: number): Promise<number>;
  /** NUL-terminated names (xattr(7)); does not follow a symlink. */
  llistxattr(path: Buffer): Buffer;
  lgetxattr(path: Buffer, name: Buffer): Buffer;
  /**
   * Sends one datagram to the service manager (sd_notify(3)): `READY=1`, `WATCHDOG=1`, …
   * `socket` is NOTIFY_SOCKET: a path, or a name in the abstract namespace that starts with `@`.
   */
  sdNotify(socket: Buffer, message: Buffer): void;
  /** Sets no_new_privs (prctl(2)) for every thread of this process, for good. */
  setNoNewPrivs(): void;
  /** Sets RLIMIT_CORE to 0 (setrlimit(2)), for good and for every process that is started later. */
  noCoreFiles(): void;
}

export type AddonState =
  | { readonly kind: 'loaded'; readonly addon: Addon; readonly file: string }
  | { readonly kind: 'absent'; readonly reason: string };

const file = path.join(
  import.meta.dirname,
  '../prebuilds',
  `${process.platform}-${process.arch}`,
  'builderd.node',
);

let state: AddonState | undefined;

/** Loads the addon once. Absent is a state, not a fault: callers have slower ways in plain Node. */
export function addonState(): AddonState {
  state ??= load();
  return state;
}

export function loadAddon(): Addon | undefined {
  const found = addonState();
  return found.kind === 'loaded' ? found.addon : undefined;
}

function load(): AddonState {
  try {
    const addon = createRequire(import.meta.url)(file) as Addon;
    return { kind: 'loaded', addon, file };
  } catch (reason) {
    const text = reason instanceof Error ? reason.message.split('\n', 1)[0] : String(reason);
    return { kind: 'absent', reason: `${text ?? ''} (run: npm run build:native)` };
  }
}
