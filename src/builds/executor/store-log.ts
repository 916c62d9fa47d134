import type { Log } from '../../core/log.ts';
import { detachedSignal, Scope } from '../../core/scope.ts';
import { insertArtifacts } from '../../store/artifacts/artifact-rows.ts';
import type {
  ArtifactStore,
  Generation,
  StoredBlob,
} from '../../store/artifacts/artifact-store.ts';
import { discardCopies, noteCopy, requireNoted } from '../../store/artifacts/noted-copies.ts';
import { freshGeneration } from '../../store/artifacts/stored-name.ts';
import type { Database } from '../../store/database.ts';
import { type EndedLog, findEndedLogs, holdEndedLog } from '../../store/logs/find-ended-logs.ts';
import { trimSegments } from '../../store/logs/trim-segments.ts';
import { findTenantById } from '../../store/tenants/find-tenant.ts';
import { exportLog } from '../logs/export-log.ts';
import { LOG } from './store-artifacts.ts';

export interface LogStoreDeps {
  readonly database: Database;
  readonly artifacts: ArtifactStore;
  readonly log: Log;
}

interface Call {
  readonly signal: AbortSignal;
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
    const { database, log } = this.#deps;
    const page = await findEndedLogs(database, { after: this.#after, limit: BATCH });
    this.#after = page.next;
    for (const { buildId, reason } of page.unreadable) {
      log.error({ buildId, err: reason }, 'Cannot read a build: its log stays where it is');
    }
    let moved = 0;
    for (const ended of page.logs) {
      try {
        moved += (await this.#move(ended, call)) ? 1 : 0;
      } catch (err) {
        if (call.signal.aborted) throw err;
        const { buildId, tenantId } = ended;
        log.warn({ buildId, tenantId, err }, 'Cannot move a log into the artifact store');
      }
    }
    return moved;
  }

  async #move(log: EndedLog, call: Call): Promise<boolean> {
    const { database, artifacts } = this.#deps;
    const { buildId, tenantId, attempt } = log;
    await using scope = new Scope((step, err) => {
      this.#deps.log.warn({ buildId, tenantId, step, err }, 'Cannot clean up after moving a log');
    });
    const undo = () => ({ signal: detachedSignal(UNDO_LIMIT_MS) });
    const tenant = await findTenantById(database, tenantId);
    if (tenant === undefined || tenant.storageBytes >= tenant.quotas.maxStorageBytes) return false;
    const encrypt = this.#encryptAll() || tenant.quotas.encryption;
    // Not the attempt's: that is over, and what it stored may be swept any time.
    const generation = freshGeneration();
    // No-op for a copy that has its name.
    scope.defer('discard what was not named', async () => {
      await discardCopies(database, artifacts, { tenantId, generation }, undo());
    });
    scope.defer('discard what was staged', () =>
      artifacts.discardAttempt({ buildId, attempt }, undo()),
    );
    const blob = await this.#store(log, { encrypt, generation }, call);
    const artifact = { ...LOG, blob };
    const room = tenant.quotas.maxStorageBytes - blob.sizeBytes;
    return await database.transaction(async (tx) => {
      if (!(await holdEndedLog(tx, log))) return false;
      const now = await findTenantById(tx, tenantId, { lock: true });
      if (now === undefined || now.storageBytes > room) return false;
      await requireNoted(tx, tenantId, [artifact.blob]);
      await insertArtifacts(tx, { tenantId, buildId, artifacts: [artifact] });
      await trimSegments(tx, buildId);
      return true;
    }, call);
  }

  async #store(
    { buildId, tenantId, attempt }: EndedLog,
    how: { readonly encrypt: boolean; readonly generation: Generation },
    { signal }: Call,
  ): Promise<StoredBlob> {
    const { database, artifacts } = this.#deps;
    await using staged = await artifacts.stage({ buildId, attempt, name: LOG.name }, { signal });
    await staged.handle.writeFile(exportLog(database, buildId));
    const announce = (blob: StoredBlob): Promise<void> => noteCopy(database, tenantId, blob);
    return await artifacts.commit(staged, { tenantId, ...how, announce, signal });
  }
}
