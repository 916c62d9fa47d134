import type { FileHandle } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { Digest } from '../../core/digest.ts';
import type { BuildId, TenantId } from '../../core/ids.ts';

/** Which attempt stages, and under what name: `rootfs.ext4`, `metadata.json`, `build.log`. */
export interface StageRequest {
  readonly buildId: BuildId;
  /** The fence number of the claim: at least 1. */
  readonly attempt: number;
  /** Lower-case letters, digits, dots and dashes, at most 64, starting with a letter or digit. */
  readonly name: string;
}

/** An empty file to be filled by the attempt, or by a worker that is handed its descriptor. */
export interface StagedArtifact extends AsyncDisposable {
  /** Read and write. Closed by disposal, also after a commit. */
  readonly handle: FileHandle;
  /** Where it lies, for messages: never open it by this path. */
  readonly path: string;
  readonly request: StageRequest;
}

/**
 * One physical copy of a tenant's bytes. `generation` is part of the stored name and never used
 * twice, so that a late removal of one copy cannot hit another copy of the same bytes.
 */
export interface StoredBlob {
  /** Of the plain bytes, computed by the store. */
  readonly digest: Digest;
  /** Of the plain bytes. */
  readonly sizeBytes: number;
  /** What the copy takes in the store: more than `sizeBytes` when encrypted. */
  readonly storedBytes: number;
  readonly generation: Generation;
  /** The tenant's key; absent when stored plain. */
  readonly dataKeyId?: string;
}

declare const generationBrand: unique symbol;
export type Generation = string & { readonly [generationBrand]: true };

/** Bytes `start` to `end`, both inclusive, of the plain artifact. */
export interface BlobRange {
  readonly start: number;
  readonly end: number;
}

/** A name that the store holds; whether a row knows it is for the caller to ask. */
export type ListedFile =
  | {
      readonly kind: 'blob';
      readonly tenantId: TenantId;
      readonly digest: Digest;
      readonly generation: Generation;
      readonly storedBytes: number;
    }
  /** Nothing that builderd wrote there: reported, never touched. */
  | { readonly kind: 'foreign'; readonly name: string };

export interface StagedAttempt {
  readonly buildId: BuildId;
  readonly attempt: number;
}

export type StoreHealth =
  | { readonly kind: 'healthy' }
  /** Nothing is staged or committed until `builderd fsck` has found the disk sound. */
  | { readonly kind: 'unhealthy'; readonly reason: string };

export interface StoreSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

export interface CommitOptions {
  readonly tenantId: TenantId;
  readonly encrypt: boolean;
  /** Of the new copy, if one is made. Default: that of the attempt, see stored-name.ts. */
  readonly generation?: Generation;
  /**
   * Hears of a new copy before it is there: what is written down then is known however this ends.
   * Nothing is stored when it throws.
   */
  readonly announce?: (blob: StoredBlob) => Promise<void>;
}

interface Call {
  readonly signal: AbortSignal;
}

/**
 * Where artifacts live. What is committed here is visible to nobody until a row names it:
 * `insertArtifacts` in the transaction that completes the build.
 */
export interface ArtifactStore extends AsyncDisposable {
  readonly backend: 'local' | 's3';
  /**
   * A fresh file of this attempt on the disk that commits it. Throws `storage.full`,
   * `storage.failed` (also while the store is unhealthy), `api.conflict` when the name is staged.
   */
  stage(request: StageRequest, call: Call): Promise<StagedArtifact>;
  /**
   * Hashes what was staged by its own reading, makes it durable under a name of its digest and
   * removes the staged name. No one else may hold the file for writing any more. Repeating for the
   * same attempt is a no-op. A fault leaves nothing visible; after a failed fsync the attempt must
   * be given up: `storage.failed`. Throws `storage.full`, `build.cancelled`.
   */
  commit(staged: StagedArtifact, options: Call & CommitOptions): Promise<StoredBlob>;
  /**
   * The plain bytes, whole or a range that lies inside. Reads only as fast as it is read from;
   * destroying it releases all. Errors, also later on the stream: `artifact.missing`,
   * `artifact.corrupt`. `verify` checks the digest of a whole plain copy before the last piece is
   * given out; pieces of an encrypted copy are always checked.
   */
  open(
    tenantId: TenantId,
    blob: StoredBlob,
    options: Call & { readonly range?: BlobRange; readonly verify?: boolean },
  ): Promise<Readable>;
  /** Stores the same bytes again, under the tenant's current key or plain; the old copy stays. */
  recode(
    tenantId: TenantId,
    blob: StoredBlob,
    options: Call & { readonly encrypt: boolean },
  ): Promise<StoredBlob>;
  /** Bytes that the copy takes, or undefined when there is none. */
  storedSize(
    tenantId: TenantId,
    blob: Pick<StoredBlob, 'digest' | 'generation'>,
    call: Call,
  ): Promise<number | undefined>;
  /** Idempotent. Only for copies that no row names and that were condemned a grace period ago. */
  remove(
    tenantId: TenantId,
    blob: Pick<StoredBlob, 'digest' | 'generation'>,
    call: Call,
  ): Promise<void>;
  /** All stored copies, in no order. */
  list(call: Call): AsyncIterable<ListedFile>;
  /** Attempts that have staged files. */
  stagedAttempts(call: Call): Promise<readonly StagedAttempt[]>;
  /** Removes what an attempt staged; only for attempts that are over. Idempotent. */
  discardAttempt(attempt: StagedAttempt, call: Call): Promise<void>;
  /** Removes what operations of the store left behind when their process died, after a day. */
  tidy(call: Call): Promise<void>;
  /** The id of the database whose artifacts these are; undefined when the store is not marked. */
  readMark(call: Call): Promise<string | undefined>;
  /** Marks the store; without `replace` a mark that is there stays. */
  writeMark(databaseId: string, options: Call & { readonly replace: boolean }): Promise<void>;
  health(): StoreHealth;
  /** Writes, syncs and reads back a probe; a sound disk makes the store healthy again. */
  check(call: Call): Promise<StoreHealth>;
  /** Of the disk that artifacts are staged on. */
  space(call: Call): Promise<StoreSpace>;
}
