import { setTimeout as sleep } from 'node:timers/promises';
import { type BuildState, parseBuildState } from '../../core/build-state.ts';
import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { detachedSignal } from '../../core/scope.ts';
import type { Database, Db } from '../../store/database.ts';
import { readInteger, readText } from '../../store/row-values.ts';
import type { Attempt } from './attempt.ts';

const TRANSACTION_LIMIT_MS = 10_000;
const PAUSE_MS = 500;

export interface Write<T> {
  readonly body: (tx: Db) => Promise<T>;
  /** The answer of a write that landed, told from the state that the row then has; else undefined. */
  readonly landed: (state: BuildState | undefined) => { readonly value: T } | undefined;
}

/** For writes that answer nothing. */
export const DONE = { value: undefined } as const;

/**
 * Writes for an attempt, for as long as its claim surely holds: a database that is away is waited
 * for. After an unknown outcome the row is read again before anything is repeated, so that nothing
 * is written twice.
 * Throws `build.lost` when the claim ended or may have, and what `body` throws.
 */
export async function persist<T>(
  database: Database,
  attempt: Attempt,
  write: Write<T>,
): Promise<T> {
  for (let isRepeat = false; ; isRepeat = true) {
    if (!attempt.holds) {
      throw new BuilderdError('build.lost', 'Cannot write for the build: its claim is lost');
    }
    try {
      return await database.transaction(
        async (tx) => {
          const landed = isRepeat ? write.landed(await readState(tx, attempt)) : undefined;
          return landed === undefined ? await write.body(tx) : landed.value;
        },
        { signal: detachedSignal(TRANSACTION_LIMIT_MS) },
      );
    } catch (reason) {
      if (!isBuilderdError(reason, 'database.unavailable')) throw reason;
    }
    await sleep(PAUSE_MS);
  }
}

/** Undefined when a later attempt has the build. */
async function readState(tx: Db, { fenced }: Attempt): Promise<BuildState | undefined> {
  const row = await tx.k
    .selectFrom('builds')
    .select(['state', 'attempt'])
    .where('id', '=', fenced.buildId)
    .executeTakeFirst();
  if (row === undefined || readInteger(row.attempt, 'builds.attempt') !== fenced.attempt) {
    return undefined;
  }
  return parseBuildState(readText(row.state, 'builds.state'));
}
