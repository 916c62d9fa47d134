import { parseDigest } from '../core/digest.ts';
import { BuilderdError } from '../core/errors.ts';
import type { Descriptor } from '../core/oci.ts';
import type { Descriptor__Output } from './generated/containerd/types/Descriptor.ts';
import type { Timestamp__Output } from './generated/google/protobuf/Timestamp.ts';

/** A non-negative int64 of the wire as a number. */
export function parseWireSize(text: string, what: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new BuilderdError('runtime.failed', `Cannot use ${what} ${text}: not a size in bytes`);
}

/** Throws `runtime.failed` for a message that the daemon must fill and did not. */
export function required<T>(value: T | null, what: string): T {
  if (value !== null) return value;
  throw new BuilderdError('runtime.failed', `Cannot use containerd's reply: ${what} is missing`);
}

export function parseWireDescriptor(wire: Descriptor__Output | null, what: string): Descriptor {
  const { media_type: mediaType, digest, size } = required(wire, what);
  return { mediaType, digest: parseDigest(digest, what), size: parseWireSize(size, what) };
}

/** Undefined for "never": absent, or Go's zero time, whose seconds are negative. */
export function parseWireTime(wire: Timestamp__Output | null): Date | undefined {
  const seconds = Number(wire?.seconds ?? -1);
  if (wire === null || seconds < 0) return undefined;
  return new Date(seconds * 1000 + Math.floor(wire.nanos / 1e6));
}
