import type { Db } from '../database.ts';
import { readBytes, readInteger } from '../row-values.ts';

export interface LogSegment {
  readonly firstEntry: number;
  readonly entries: number;
  readonly data: Uint8Array;
}

/** The writer keeps segments below half a megabyte, so that this many are not too much at once. */
const MAX_SEGMENTS = 8;
const ENOUGH_BYTES = 1024 * 1024;

/**
 * The segment that holds entry `from` and some that follow, without a gap; empty when that entry is
 * not in the database. At least one segment, then as many as make about a megabyte.
 */
export async function readSegments(
  db: Db,
  buildId: string,
  from: number,
): Promise<readonly LogSegment[]> {
  const rows = await db.k
    .selectFrom('log_segments')
    .select(['first_entry', 'entries', 'data'])
    .where('build_id', '=', buildId)
    .where('first_entry', '>=', (eb) =>
      eb.fn.coalesce(
        eb
          .selectFrom('log_segments')
          .select((inner) => inner.fn.max('first_entry').as('start'))
          .where('build_id', '=', buildId)
          .where('first_entry', '<=', from),
        eb.val(from),
      ),
    )
    .orderBy('first_entry')
    .limit(MAX_SEGMENTS)
    .execute();
  const segments: LogSegment[] = [];
  let next = from;
  let bytes = 0;
  for (const row of rows) {
    const segment = parseSegmentRow({ ...row });
    const end = segment.firstEntry + segment.entries;
    if (segment.firstEntry > next || end <= next || bytes >= ENOUGH_BYTES) break;
    segments.push(segment);
    next = end;
    bytes += segment.data.length;
  }
  return segments;
}

function parseSegmentRow(row: { readonly [column: string]: unknown }): LogSegment {
  return {
    firstEntry: readInteger(row['first_entry'], 'log_segments.first_entry'),
    entries: readInteger(row['entries'], 'log_segments.entries'),
    data: readBytes(row['data'], 'log_segments.data'),
  };
}
