import { expireBuilds, graceOf, KEEP, purgeDeleted } from '../../builds/executor/housekeeping.ts';
import { BuilderdError } from '../../core/errors.ts';
import { formatBytes, formatDuration } from '../../core/units.ts';
import { collectGarbage } from '../../store/artifacts/collect-garbage.ts';
import { findExpiredBuilds } from '../../store/artifacts/expired-builds.ts';
import { sweepCopies } from '../../store/artifacts/noted-copies.ts';
import { sweepStaging } from '../../store/artifacts/sweep-staging.ts';
import type { Io } from '../io.ts';
import { oneLine } from '../print-fault.ts';
import { durationMs } from '../setting-kinds.ts';
import { openStorage, type Storage } from './open-storage.ts';

export interface GcOptions {
  readonly config?: string;
  readonly dryRun?: true;
  readonly grace?: string;
  readonly json?: true;
}

/** A build may take that long from committing its first artifact to naming all of them. */
const MIN_GRACE_MS = 60 * 60_000;
/** Builds that a dry run counts at most. */
const MAX_COUNTED = 100_000;

/**
 * `builderd gc`: what the service does from time to time, now. Retention, staged files of dead
 * attempts, bytes that nobody can reach. Safe beside running builds and downloads.
 */
export async function runGc(options: GcOptions, io: Io): Promise<void> {
  const graceMs = parseGrace(options.grace);
  const dryRun = options.dryRun === true;
  await using storage = await openStorage(
    { file: options.config, readOnly: dryRun, decrypts: async () => false },
    io,
  );
  const { database, store } = storage;
  const { signal } = io;
  const expired = await expire(storage, { dryRun, signal });
  const staged =
    dryRun && store.backend === 's3' ? [] : await sweepStaging(database, store, { dryRun, signal });
  const onBadCopy = (name: string, { message }: BuilderdError): void => {
    io.stderr.write(`builderd: ${oneLine(`Cannot remove ${name}: ${message}`)}\n`);
  };
  const abandoned = await sweepCopies(database, store, { dryRun, onBadCopy, signal });
  const grace = graceOf({ ...KEEP, unnamedMs: graceMs });
  const report = await collectGarbage(database, store, { ...grace, onBadCopy, dryRun, signal });
  if (options.json === true) {
    const deadAttempts = staged.length;
    const facts = { dryRun, graceMs, expired, deadAttempts, abandoned, ...report };
    io.stdout.write(`${JSON.stringify(facts)}\n`);
    return;
  }
  const would = dryRun ? 'Would have ' : '';
  const say = (text: string): void => {
    const line = `${would}${text}`;
    io.stdout.write(`${line.charAt(0).toUpperCase()}${line.slice(1)}\n`);
  };
  say(`expired ${expired} builds beyond their retention`);
  say(`removed staged files of ${staged.length} attempts that are over`);
  say(`removed ${abandoned} copies that such attempts had stored`);
  say(`found ${report.condemned} new copies that no artifact names`);
  say(`removed ${report.removed} copies, ${formatBytes(report.removedBytes)}`);
  const { waiting, waitingBytes } = report;
  io.stdout.write(
    `${waiting} copies, ${formatBytes(waitingBytes)}, wait for the end of their time: ${formatDuration(KEEP.releasedMs)} after a delete, else ${formatDuration(graceMs)}\n`,
  );
  for (const name of report.foreign) {
    io.stdout.write(`not written by builderd, left alone: ${oneLine(name)}\n`);
  }
}

async function expire(
  { config, database, log }: Storage,
  { dryRun, signal }: { readonly dryRun: boolean; readonly signal: AbortSignal },
): Promise<number> {
  const { settings, given } = config;
  const buildDays = given.has('STORAGE_RETENTION_DAYS')
    ? settings.STORAGE_RETENTION_DAYS
    : undefined;
  const days = buildDays === undefined ? {} : { buildDays };
  if (dryRun) {
    const defaults = buildDays === undefined ? {} : { retentionDays: buildDays };
    return (await findExpiredBuilds(database, { limit: MAX_COUNTED, defaults })).length;
  }
  const expired = await expireBuilds({ database, log }, { ...KEEP, ...days }, { signal });
  await purgeDeleted({ database, log }, { signal });
  return expired;
}

function parseGrace(text: string | undefined): number {
  if (text === undefined) return KEEP.unnamedMs;
  const parsed = durationMs(KEEP.unnamedMs, '').parse(text);
  if (parsed !== undefined && parsed >= MIN_GRACE_MS) return parsed;
  throw new BuilderdError(
    'usage.invalid',
    `Cannot use --grace ${JSON.stringify(text.slice(0, 60))}: want a duration of at least 1h, such as 24h`,
  );
}
