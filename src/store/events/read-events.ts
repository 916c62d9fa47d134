import { type BuildId, parseBuildId, type TenantId } from '../../core/ids.ts';
import { EVENT_TYPES, type EventType } from '../../core/event-types.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { readInteger, readJsonObject, readOneOf, readOptionalText } from '../row-values.ts';

export interface EventRecord {
  readonly seq: number;
  readonly type: EventType;
  readonly buildId?: BuildId;
  readonly at: number;
  readonly data: Readonly<Record<string, string | number | boolean>>;
}

/** In order, from the one after `after`. Numbers that retention removed are not there. */
export async function readEvents(
  db: Db,
  tenantId: TenantId,
  { after, limit }: { readonly after: number; readonly limit: number },
): Promise<readonly EventRecord[]> {
  const rows = await db.k
    .selectFrom('events')
    .select(['seq', 'type', 'build_id', 'created_at', 'data'])
    .where('tenant_id', '=', tenantId)
    .where('seq', '>', after)
    .orderBy('seq')
    .limit(limit)
    .execute();
  return rows.map((row) => parseEventRow({ ...row }));
}

/** A row of `events`. */
export function parseEventRow(row: { readonly [column: string]: unknown }): EventRecord {
  const buildId = readOptionalText(row['build_id'], 'events.build_id');
  return {
    seq: readInteger(row['seq'], 'events.seq'),
    type: readOneOf(EVENT_TYPES, row['type'], 'events.type'),
    ...(buildId === undefined ? {} : { buildId: parseBuildId(buildId) }),
    at: readInteger(row['created_at'], 'events.created_at'),
    data: parseData(row['data']),
  };
}

function parseData(text: unknown): EventRecord['data'] {
  const data: Record<string, string | number | boolean> = {};
  for (const [key, value] of Object.entries(readJsonObject(text, 'events.data'))) {
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') {
      throw new BuilderdError(
        'internal',
        'Cannot read events.data from the database: a value is nested',
      );
    }
    data[key] = value;
  }
  return data;
}
