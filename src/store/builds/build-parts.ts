import { BUILD_STATES, type BuildState } from '../../core/build-state.ts';
import type { BuildId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import {
  readInteger,
  readOneOf,
  readOptionalInteger,
  readOptionalText,
  readText,
} from '../row-values.ts';

/** One state that an attempt passed through. */
export interface StepRecord {
  readonly attempt: number;
  readonly state: BuildState;
  readonly name: string;
  readonly startedAt: number;
  readonly finishedAt: number | undefined;
  readonly outcome: string | undefined;
}

export interface ArtifactRecord {
  readonly name: string;
  readonly format: string;
  readonly mediaType: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly createdAt: number;
}

/** Steps of all attempts, in order, of each build that has some. */
export async function stepsOf(
  db: Db,
  ids: readonly BuildId[],
): Promise<ReadonlyMap<string, readonly StepRecord[]>> {
  if (ids.length === 0) return new Map();
  const rows = await db.k
    .selectFrom('steps')
    .selectAll()
    .where('build_id', 'in', [...ids])
    .orderBy('build_id')
    .orderBy('attempt')
    .orderBy('seq')
    .execute();
  return grouped(rows.map((row) => [row.build_id, parseStepRow({ ...row })]));
}

/** Artifacts of each build that has some, sorted by name. */
export async function artifactsOf(
  db: Db,
  ids: readonly BuildId[],
): Promise<ReadonlyMap<string, readonly ArtifactRecord[]>> {
  if (ids.length === 0) return new Map();
  const rows = await db.k
    .selectFrom('build_artifacts')
    .selectAll()
    .where('build_id', 'in', [...ids])
    .orderBy('build_id')
    .orderBy('name')
    .execute();
  return grouped(rows.map((row) => [row.build_id, parseArtifactRow({ ...row })]));
}

type Row = { readonly [column: string]: unknown };

function parseStepRow(row: Row): StepRecord {
  return {
    attempt: readInteger(row['attempt'], 'steps.attempt'),
    state: readOneOf(BUILD_STATES, row['state'], 'steps.state'),
    name: readText(row['name'], 'steps.name'),
    startedAt: readInteger(row['started_at'], 'steps.started_at'),
    finishedAt: readOptionalInteger(row['finished_at'], 'steps.finished_at'),
    outcome: readOptionalText(row['outcome'], 'steps.outcome'),
  };
}

export function parseArtifactRow(row: Row): ArtifactRecord {
  return {
    name: readText(row['name'], 'build_artifacts.name'),
    format: readText(row['format'], 'build_artifacts.format'),
    mediaType: readText(row['media_type'], 'build_artifacts.media_type'),
    digest: readText(row['digest'], 'build_artifacts.digest'),
    sizeBytes: readInteger(row['size_bytes'], 'build_artifacts.size_bytes'),
    createdAt: readInteger(row['created_at'], 'build_artifacts.created_at'),
  };
}

function grouped<T>(pairs: readonly (readonly [string, T])[]): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const [id, value] of pairs) {
    const group = groups.get(id);
    if (group === undefined) groups.set(id, [value]);
    else group.push(value);
  }
  return groups;
}
