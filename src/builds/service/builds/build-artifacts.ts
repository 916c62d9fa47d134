import type { Readable } from 'node:stream';
import { parseDigest } from '../../../core/digest.ts';
import { BuilderdError } from '../../../core/errors.ts';
import type { BuildId } from '../../../core/ids.ts';
import { throwIfAborted } from '../../../core/scope.ts';
import type { ArtifactStore } from '../../../store/artifacts/artifact-store.ts';
import { requireBlob } from '../../../store/artifacts/blob-rows.ts';
import { artifactsOf } from '../../../store/builds/build-parts.ts';
import { findArtifact } from '../../../store/builds/find-artifact.ts';
import type { Database } from '../../../store/database.ts';
import type { ByteRange, Call } from '../build-service.ts';
import type { TenantRef } from '../caller.ts';
import type { ArtifactView } from '../views.ts';
import type { ServedBytes } from './served-bytes.ts';

/** The artifacts of builds that the caller has found to be the tenant's. */
export class BuildArtifacts {
  readonly #database: Database;
  readonly #store: Pick<ArtifactStore, 'open'>;
  readonly #served: ServedBytes;

  constructor(database: Database, store: Pick<ArtifactStore, 'open'>, served: ServedBytes) {
    this.#database = database;
    this.#store = store;
    this.#served = served;
  }

  async list(id: BuildId): Promise<readonly ArtifactView[]> {
    return (await artifactsOf(this.#database, [id])).get(id) ?? [];
  }

  /** The name is looked up among the build's rows; what is opened is named by the row's digest. */
  async open(
    tenant: TenantRef,
    id: BuildId,
    name: string,
    { range, signal }: Call & { readonly range?: ByteRange },
  ): Promise<{ readonly artifact: ArtifactView; readonly body: Readable }> {
    throwIfAborted(signal, 'open the artifact');
    const storable = name.isWellFormed() && !name.includes('\0');
    const artifact = storable ? await findArtifact(this.#database, tenant.id, id, name) : undefined;
    if (artifact === undefined) {
      throw new BuilderdError(
        'api.not_found',
        'Cannot find the artifact: the build has none of this name',
      );
    }
    if (range !== undefined) checkRange(range, artifact.sizeBytes);
    const digest = parseDigest(artifact.digest, 'build_artifacts.digest');
    const blob = await requireBlob(this.#database, tenant.id, digest);
    const options = range === undefined ? { signal } : { signal, range };
    const body = await this.#store.open(tenant.id, blob, options);
    return { artifact, body: this.#served.count(tenant.id, body) };
  }
}

function checkRange({ start, end }: ByteRange, sizeBytes: number): void {
  const sound = Number.isSafeInteger(start) && Number.isSafeInteger(end);
  if (sound && start >= 0 && start <= end && end < sizeBytes) return;
  throw new BuilderdError(
    'api.invalid',
    `Cannot read this range of the artifact: it has ${sizeBytes} bytes`,
  );
}
