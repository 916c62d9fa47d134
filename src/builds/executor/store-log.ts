import { detachedSignal } from '../../core/scope.ts';
import type { TenantId } from '../../core/ids.ts';
import { insertArtifacts, type NewArtifact } from '../../store/artifacts/artifact-rows.ts';
import type { ArtifactStore, StagedAttempt } from '../../store/artifacts/artifact-store.ts';
import type { Database } from '../../store/database.ts';
import { type EndedLog, findEndedLogs, holdEndedLog } from '../../store/logs/find-ended-logs.ts';
import { trimSegments } from '../../store/logs/trim-segments.ts';
import { findTenantById } from '../../store/tenants/find-tenant.ts';
import { exportLog } from '../logs/export-log.ts';

export interface LogStoreDeps {
  readonly database: Database;
  readonly artifacts: ArtifactStore;
}

interface Call {
  readonly signal: AbortSignal;
}

/** The log as an artifact. Nothing may be written to it after it was read, or readers would miss that. */
export async function storeLog(
  attempt: StagedAttempt,
  { tenantId, encrypt }: { readonly tenantId: TenantId; readonly encrypt: boolean },
  { database, artifacts }: LogStoreDeps,
  { signal }: Call,
): Promise<NewArtifact> {
  const name = 'build.log';
  await using staged = await artifacts.stage({ ...attempt, name }, { signal });
  await staged.handle.writeFile(exportLog(database, attempt.buildId));
  const blob = await artifacts.commit(staged, { tenantId, encrypt, signal });
  return { name, format: 'log', mediaType: 'application/x-ndjson', blob };
}

const BATCH = 20;
const UNDO_LIMIT_MS = 10_000;

/**
 * Moves the logs of builds that failed or were cancelled out of the database; those of completed
 * builds go with their artifacts. A tenant whose storage is full keeps its logs where they are.
 */
export class LogMover {
  readonly #deps: LogStoreDeps;
  readonly #encryptAll: () => boolean;
  /** Where the last run stopped: a log that cannot be moved must not keep others from it. */
  #after = '';

  constructor(deps: LogStoreDeps, encryptAll: () => boolean) {
    this.#deps = deps;
    this.#encryptAll = encryptAll;
  }

  /** Gives how many it moved. */
  async run(call: Call): Promise<number> {
    const logs = await findEndedLogs(this.#deps.database, { after: this.#after, limit: BATCH });
    this.#after = logs.length < BATCH ? '' : (logs.at(-1)?.buildId ?? '');
    let moved = 0;
    for (const log of logs) moved += (await this.#move(log, call)) ? 1 : 0;
    return moved;
  }

  async #move(log: EndedLog, call: Call): Promise<boolean> {
    const { database, artifacts } = this.#deps;
    const { buildId, tenantId, attempt } = log;
    const tenant = await findTenantById(database, tenantId);
    if (tenant === undefined || tenant.storageBytes >= tenant.quotas.maxStorageBytes) return false;
    const encrypt = this.#encryptAll() || tenant.quotas.encryption;
    try {
      const stored = await storeLog({ buildId, attempt }, { tenantId, encrypt }, this.#deps, call);
      const room = tenant.quotas.maxStorageBytes - stored.blob.sizeBytes;
      return await database.transaction(async (tx) => {
        if (!(await holdEndedLog(tx, log))) return false;
        const now = await findTenantById(tx, tenantId, { lock: true });
        if (now === undefined || now.storageBytes > room) return false;
        await insertArtifacts(tx, { tenantId, buildId, artifacts: [stored] });
        await trimSegments(tx, buildId);
        return true;
      }, call);
    } finally {
      await artifacts.discardAttempt(
        { buildId, attempt },
        { signal: detachedSignal(UNDO_LIMIT_MS) },
      );
    }
  }
}
