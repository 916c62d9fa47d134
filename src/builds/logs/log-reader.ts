import type { BuildId, TenantId } from '../../core/ids.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { ArtifactStore } from '../../store/artifacts/artifact-store.ts';
import type { Database } from '../../store/database.ts';
import { readSegments } from '../../store/logs/read-segments.ts';
import type { LogEntry } from '../service/views.ts';
import { ArchivedLogs, type ReadRange } from './archived-log.ts';
import { parseSegment } from './log-lines.ts';

const PAGE_CHARS = 2 * 1024 * 1024;

/** Reads logs wherever they are: in the database while the build runs, in the artifact store later. */
export class LogReader {
  readonly #database: Database;
  readonly #archive: ArchivedLogs;

  constructor(database: Database, store: Pick<ArtifactStore, 'open'>) {
    this.#database = database;
    this.#archive = new ArchivedLogs(store);
  }

  /**
   * Entries from `from` on, about a megabyte of them at most. For a build of the tenant whose log
   * has an entry `from`: then there is at least one. Throws `artifact.missing`, `artifact.corrupt`.
   */
  async read(
    tenantId: TenantId,
    buildId: BuildId,
    range: ReadRange,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<readonly LogEntry[]> {
    throwIfAborted(signal, 'read the log');
    const segments = await readSegments(this.#database, buildId, range.from);
    // The row of the artifact is there before segments go: what is not here is there.
    if (segments.length === 0) {
      return await this.#archive.read(this.#database, tenantId, buildId, range, { signal });
    }
    return segments
      .flatMap(({ data, firstEntry }) => parseSegment(data, firstEntry, range.from))
      .slice(0, range.limit);
  }

  /** Entries from `from` up to, without, `until`; fewer only when they take some megabytes. */
  async readPage(
    tenantId: TenantId,
    buildId: BuildId,
    { from, until }: { readonly from: number; readonly until: number },
    call: { readonly signal: AbortSignal },
  ): Promise<readonly LogEntry[]> {
    const page: LogEntry[] = [];
    for (let chars = 0; from + page.length < until && chars < PAGE_CHARS; ) {
      const range = { from: from + page.length, limit: until - from - page.length };
      const entries = await this.read(tenantId, buildId, range, call);
      if (entries.length === 0) break;
      page.push(...entries);
      chars += entries.reduce((sum, { message }) => sum + message.length, 0);
    }
    return page;
  }
}
