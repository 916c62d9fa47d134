import { BUILD_STATES, type BuildState } from '../../core/build-state.ts';
import type { BuildId } from '../../core/ids.ts';
import type { Db, UnreadRow } from '../database.ts';
import { PreparedQuery } from '../prepared-query.ts';
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
  const [id] = ids;
  if (id === undefined) return new Map();
  const rows: readonly UnreadRow[] =
    ids.length === 1 ? await STEPS_OF_ONE.run(db, { id }) : await selectSteps(db.k, ids).execute();
  return grouped(rows, 'steps', parseStepRow);
}

const selectSteps = (k: Db['k'], ids: readonly BuildId[]) =>
  k
    .selectFrom('steps')
    .selectAll()
    .where('build_id', 'in', [...ids])
    .orderBy('build_id')
    .orderBy('attempt')
    .orderBy('seq');
const STEPS_OF_ONE = new PreparedQuery<{ id: BuildId }>((k, value) =>
  selectSteps(k, [value('id')]),
);

/** Artifacts of each build that has some, sorted by name. */
export async function artifactsOf(
  db: Db,
  ids: readonly BuildId[],
): Promise<ReadonlyMap<string, readonly ArtifactRecord[]>> {
  const [id] = ids;
  if (id === undefined) return new Map();
  const rows: readonly UnreadRow[] =
    ids.length === 1
      ? await ARTIFACTS_OF_ONE.run(db, { id })
      : await selectArtifacts(db.k, ids).execute();
  return grouped(rows, 'build_artifacts', parseArtifactRow);
}

const selectArtifacts = (k: Db['k'], ids: readonly BuildId[]) =>
  k
    .selectFrom('build_artifacts')
    .selectAll()
    .where('build_id', 'in', [...ids])
    .orderBy('build_id')
    .orderBy('name');
const ARTIFACTS_OF_ONE = new PreparedQuery<{ id: BuildId }>((k, value) =>
  selectArtifacts(k, [value('id')]),
);

function parseStepRow(row: UnreadRow): StepRecord {
  return {
    attempt: readInteger(row['attempt'], 'steps.attempt'),
    state: readOneOf(BUILD_STATES, row['state'], 'steps.state'),
    name: readText(row['name'], 'steps.name'),
    startedAt: readInteger(row['started_at'], 'steps.started_at'),
    finishedAt: readOptionalInteger(row['finished_at'], 'steps.finished_at'),
    outcome: readOptionalText(row['outcome'], 'steps.outcome'),
  };
}

export function parseArtifactRow(row: UnreadRow): ArtifactRecord {
  return {
    name: readText(row['name'], 'build_artifacts.name'),
    format: readText(row['format'], 'build_artifacts.format'),
    mediaType: readText(row['media_type'], 'build_artifacts.media_type'),
    digest: readText(row['digest'], 'build_artifacts.digest'),
    sizeBytes: readInteger(row['size_bytes'], 'build_artifacts.size_bytes'),
    createdAt: readInteger(row['created_at'], 'build_artifacts.created_at'),
  };
}

function grouped<T>(
  rows: readonly UnreadRow[],
  table: string,
  parse: (row: UnreadRow) => T,
): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const row of rows) {
    const id = readText(row['build_id'], `${table}.build_id`);
    const value = parse(row);
    const group = groups.get(id);
    if (group === undefined) groups.set(id, [value]);
    else group.push(value);
  }
  return groups;
}
