import { parseDigest } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { BuildId, TenantId } from '../../core/ids.ts';
import { requireBlob } from '../../store/artifacts/blob-rows.ts';
import type { ArtifactStore } from '../../store/artifacts/artifact-store.ts';
import { findArtifact } from '../../store/builds/find-artifact.ts';
import type { Db } from '../../store/database.ts';
import type { LogEntry } from '../service/views.ts';
import { parseLogLine } from './log-lines.ts';

/** Name of the artifact that a log becomes. */
export const LOG_ARTIFACT = 'build.log';

export interface ReadRange {
  readonly from: number;
  readonly limit: number;
}

/** A place is remembered for every so many entries, of so many logs. */
const STRIDE = 1000;
const MAX_LOGS = 64;
const ENOUGH_BYTES = 1024 * 1024;
/** The writer's own limit for a line, and room for what JSON adds to it. */
const MAX_LINE_BYTES = 1024 * 1024;

/** Reads logs in the artifact store from any entry on, without reading all that is before it. */
export class ArchivedLogs {
  readonly #store: Pick<ArtifactStore, 'open'>;
  /** By digest: offset of every STRIDE-th line as far as the log was read. Oldest use first. */
  readonly #places = new Map<string, number[]>();

  constructor(store: Pick<ArtifactStore, 'open'>) {
    this.#store = store;
  }

  /** About a megabyte of entries at most. Throws `artifact.missing`, `artifact.corrupt`. */
  async read(
    db: Db,
    tenantId: TenantId,
    buildId: BuildId,
    { from, limit }: ReadRange,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<readonly LogEntry[]> {
    const artifact = await findArtifact(db, tenantId, buildId, LOG_ARTIFACT);
    if (artifact === undefined) {
      throw new BuilderdError('artifact.missing', 'Cannot read the log: it was not kept');
    }
    if (artifact.sizeBytes === 0) return [];
    const digest = parseDigest(artifact.digest, 'build_artifacts.digest');
    const blob = await requireBlob(db, tenantId, digest);
    const places = this.#placesOf(`${tenantId} ${digest}`);
    const known = Math.min(Math.floor(from / STRIDE), places.length - 1);
    const start = places[known] ?? 0;
    if (start >= artifact.sizeBytes) return [];
    const range = { start, end: artifact.sizeBytes - 1 };
    const body = await this.#store.open(tenantId, blob, { range, signal });
    const entries: LogEntry[] = [];
    let n = known * STRIDE;
    let taken = 0;
    try {
      for await (const { line, end } of linesOf(body, start)) {
        if (n >= from) {
          entries.push(parseLogLine(line.toString('utf8'), n));
          taken += line.length;
        }
        n += 1;
        if (n === places.length * STRIDE) places.push(end);
        if (entries.length >= limit || taken >= ENOUGH_BYTES) break;
      }
    } finally {
      body.destroy();
    }
    return entries;
  }

  #placesOf(key: string): number[] {
    const places = this.#places.get(key) ?? [0];
    this.#places.delete(key);
    this.#places.set(key, places);
    const [oldest] = this.#places.keys();
    if (this.#places.size > MAX_LOGS && oldest !== undefined) this.#places.delete(oldest);
    return places;
  }
}

/** Lines without their ends, and the offset of what follows each. */
async function* linesOf(
  body: AsyncIterable<unknown>,
  start: number,
): AsyncGenerator<{ readonly line: Buffer; readonly end: number }> {
  let rest = Buffer.alloc(0);
  let offset = start;
  for await (const piece of body) {
    if (!(piece instanceof Uint8Array)) {
      throw new BuilderdError('internal', 'Cannot read the log: the store gave no bytes');
    }
    rest = rest.length === 0 ? Buffer.from(piece) : Buffer.concat([rest, piece]);
    let at = 0;
    for (let end = rest.indexOf(10, at); end !== -1; end = rest.indexOf(10, at)) {
      const line = rest.subarray(at, end);
      offset += line.length + 1;
      at = end + 1;
      yield { line, end: offset };
    }
    rest = rest.subarray(at);
    if (rest.length > MAX_LINE_BYTES) {
      throw new BuilderdError('artifact.corrupt', 'Cannot read the log: a line does not end');
    }
  }
}
