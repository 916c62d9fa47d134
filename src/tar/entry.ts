import type { ByteString } from '../core/bytes.ts';

export type EntryKind = 'file' | 'dir' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';

export interface Xattr {
  readonly name: ByteString;
  readonly value: Buffer;
}

/** A point in time as file systems keep it: whole seconds (may be negative) plus nanoseconds. */
export interface Timestamp {
  readonly sec: number;
  /** 0 … 999,999,999, always counted forwards from `sec`. */
  readonly nsec: number;
}

/** One member of a tar, with every PAX and GNU extension already applied. Names are raw bytes. */
export interface TarEntry {
  readonly kind: EntryKind;
  /** As written in the archive: not normalised, may hold "..", a leading "/" or a trailing "/". */
  readonly name: ByteString;
  /** Target of a symlink or hard link, as written; empty otherwise. */
  readonly linkName: ByteString;
  /** Permission bits, 0 … 0o7777. */
  readonly mode: number;
  /** 0 … 2^32-2. */
  readonly uid: number;
  readonly gid: number;
  /** Logical bytes of a file (after sparse expansion); 0 for every other kind. */
  readonly size: number;
  readonly mtime: Timestamp;
  /** Absent when the archive does not say. */
  readonly atime?: Timestamp;
  readonly xattrs: readonly Xattr[];
  readonly devMajor: number;
  readonly devMinor: number;
}

/** What a TarParser calls, synchronously and in archive order. */
export interface TarHandler {
  entry(entry: TarEntry): void;
  /**
   * File content: `chunk[start, end)` belongs at logical `offset` of the entry announced last.
   * Offsets never go back; holes of a sparse file are not reported. The chunk may be reused by
   * the caller after push() returns. Contiguous data arrives in pieces as large as the chunks
   * allow.
   */
  data(chunk: Buffer, start: number, end: number, offset: number): void;
  /** All content of the file announced last has been given. Called for kind 'file' only. */
  fileEnd(): void;
}
