import { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../../store/database.ts';
import { readLogHeads } from '../../store/logs/log-heads.ts';
import { readSegments } from '../../store/logs/read-segments.ts';
import { encodeNumberedLine, parseSegment } from './log-lines.ts';

/**
 * The whole log as lines of JSON, for the artifact `build.log`: after the writer was closed, before
 * the segments are trimmed. Throws `internal` when an entry is not there.
 */
export async function* exportLog(db: Db, buildId: string): AsyncGenerator<Buffer> {
  const entries = (await readLogHeads(db, [buildId])).get(buildId)?.entries ?? 0;
  for (let next = 0; next < entries; ) {
    const segments = await readSegments(db, buildId, next);
    const last = segments.at(-1);
    if (last === undefined) {
      throw new BuilderdError('internal', `Cannot export the log: entry ${next} is not there`);
    }
    for (const { data, firstEntry } of segments) {
      yield Buffer.from(parseSegment(data, firstEntry, next).map(encodeNumberedLine).join(''));
    }
    next = last.firstEntry + last.entries;
  }
}
