import { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { readInteger } from '../row-values.ts';

/** The claim under which an attempt writes. */
export interface LogFence {
  readonly buildId: string;
  readonly attempt: number;
  readonly owner: string;
}

export interface LogPosition {
  /** Number of the next entry. */
  readonly entries: number;
  /** Bytes of all segments so far. */
  readonly bytes: number;
  /** This attempt has written before: a writer was closed and opened again. */
  readonly begun: boolean;
}

export interface NewSegment {
  readonly firstEntry: number;
  readonly entries: number;
  /** One line for each entry. */
  readonly data: Uint8Array;
  /** Bytes that were not written because of a limit. */
  readonly droppedBytes: number;
}

/** Where the attempt goes on writing. Throws `build.lost` when it no longer holds the build. */
export async function readLogPosition(db: Db, fence: LogFence): Promise<LogPosition> {
  const row = await db.k
    .selectFrom('builds')
    .select(['log_entries', 'log_bytes'])
    .where('id', '=', fence.buildId)
    .where('attempt', '=', fence.attempt)
    .where('owner', '=', fence.owner)
    .executeTakeFirst();
  if (row === undefined) throw lost(fence);
  const last = await db.k
    .selectFrom('log_segments')
    .select('attempt')
    .where('build_id', '=', fence.buildId)
    .orderBy('first_entry', 'desc')
    .limit(1)
    .executeTakeFirst();
  return {
    entries: readInteger(row.log_entries, 'builds.log_entries'),
    bytes: readInteger(row.log_bytes, 'builds.log_bytes'),
    begun:
      last !== undefined && readInteger(last.attempt, 'log_segments.attempt') === fence.attempt,
  };
}

/**
 * Appends entries to the log. Only this attempt writes, so that a segment that is there already is
 * its own: a repeat after an unknown outcome changes nothing. Throws `build.lost`.
 */
export async function appendSegment(tx: Db, fence: LogFence, segment: NewSegment): Promise<void> {
  const { numUpdatedRows } = await tx.k
    .updateTable('builds')
    .set((eb) => ({
      log_entries: segment.firstEntry + segment.entries,
      log_bytes: eb('log_bytes', '+', segment.data.length),
      log_dropped_bytes: eb('log_dropped_bytes', '+', segment.droppedBytes),
    }))
    .where('id', '=', fence.buildId)
    .where('attempt', '=', fence.attempt)
    .where('owner', '=', fence.owner)
    .where('log_entries', '=', segment.firstEntry)
    .executeTakeFirst();
  if (numUpdatedRows === 1n) {
    await tx.k
      .insertInto('log_segments')
      .values({
        build_id: fence.buildId,
        first_entry: segment.firstEntry,
        entries: segment.entries,
        attempt: fence.attempt,
        data: segment.data,
        created_at: tx.now,
      })
      .execute();
    return;
  }
  const { entries } = await readLogPosition(tx, fence);
  if (entries === segment.firstEntry + segment.entries) return;
  throw new BuilderdError('internal', 'Cannot append to the log: somebody else wrote to it');
}

function lost({ buildId, attempt }: LogFence): BuilderdError {
  return new BuilderdError(
    'build.lost',
    `Cannot write the log of build ${buildId}: attempt ${attempt} no longer holds it`,
  );
}
