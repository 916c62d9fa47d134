import { BuilderdError } from '../../core/errors.ts';
import type { Scope } from '../../core/scope.ts';
import type { NewArtifact } from '../../store/artifacts/artifact-rows.ts';
import type {
  ArtifactStore,
  StagedArtifact,
  StoredBlob,
} from '../../store/artifacts/artifact-store.ts';
import { noteCopy } from '../../store/artifacts/noted-copies.ts';
import type { Database } from '../../store/database.ts';
import { exportLog } from '../logs/export-log.ts';
import type { Format } from '../request.ts';
import type { ClaimedArtifact } from '../worker/converter.ts';
import type { Attempt } from './attempt.ts';
import { persist } from './persist.ts';

export interface StagedOutput {
  readonly format: Format;
  readonly staged: StagedArtifact;
}

interface StoreDeps {
  readonly database: Database;
  readonly artifacts: ArtifactStore;
  readonly encrypt: boolean;
}

const FILES = {
  ext4: { name: 'rootfs.ext4', mediaType: 'application/vnd.builderd.rootfs.ext4' },
  tar: { name: 'rootfs.tar', mediaType: 'application/x-tar' },
} as const satisfies Record<Format, { name: string; mediaType: string }>;

const DOCUMENTS = {
  'metadata.json': { format: 'metadata', mediaType: 'application/json' },
  'fidelity.json': { format: 'fidelity', mediaType: 'application/json' },
} as const;
export type DocumentName = keyof typeof DOCUMENTS;

export const LOG = {
  name: 'build.log',
  format: 'log',
  mediaType: 'application/x-ndjson',
} as const;

/** An empty file for each format, on the disk that keeps artifacts; gone with the scope. */
export async function stageOutputs(
  { claim, signal }: Attempt,
  formats: readonly Format[],
  artifacts: ArtifactStore,
  scope: Scope,
): Promise<readonly StagedOutput[]> {
  const outputs: StagedOutput[] = [];
  for (const format of formats) {
    const { name } = FILES[format];
    const request = { buildId: claim.buildId, attempt: claim.attempt, name };
    const staged = await artifacts.stage(request, { signal });
    scope.defer(`remove staged ${name}`, async () => staged[Symbol.asyncDispose]());
    outputs.push({ format, staged });
  }
  return outputs;
}

/**
 * Commits what the worker wrote. The store hashes it: a worker that claimed another digest or size
 * has written another one into metadata.json too, and nothing of it is kept.
 */
export async function storeOutput(
  attempt: Attempt,
  { format, staged }: StagedOutput,
  claimed: ClaimedArtifact,
  deps: StoreDeps,
): Promise<NewArtifact> {
  const { name, mediaType } = FILES[format];
  const blob = await commitNoted(attempt, staged, deps);
  if (blob.digest !== claimed.digest || blob.sizeBytes !== claimed.sizeBytes) {
    throw new BuilderdError(
      'internal',
      `Cannot store ${name}: it has ${blob.sizeBytes} bytes and digest ${blob.digest}, its maker said ${claimed.sizeBytes} and ${claimed.digest}`,
    );
  }
  return { name, format, mediaType, blob };
}

export async function storeDocument(
  attempt: Attempt,
  name: DocumentName,
  text: string,
  deps: StoreDeps,
): Promise<NewArtifact> {
  const request = { buildId: attempt.claim.buildId, attempt: attempt.claim.attempt, name };
  await using staged = await deps.artifacts.stage(request, { signal: attempt.signal });
  await staged.handle.writeFile(text);
  return { name, ...DOCUMENTS[name], blob: await commitNoted(attempt, staged, deps) };
}

/** The log of a build that is being completed. Nothing may be written to it after it was read. */
export async function storeOwnLog(attempt: Attempt, deps: StoreDeps): Promise<NewArtifact> {
  const request = {
    buildId: attempt.claim.buildId,
    attempt: attempt.claim.attempt,
    name: LOG.name,
  };
  await using staged = await deps.artifacts.stage(request, { signal: attempt.signal });
  await staged.handle.writeFile(exportLog(deps.database, attempt.claim.buildId));
  return { ...LOG, blob: await commitNoted(attempt, staged, deps) };
}

/** The copy is written down before it is there, and goes with the attempt unless a row names it. */
async function commitNoted(
  attempt: Attempt,
  staged: StagedArtifact,
  { database, artifacts, encrypt }: StoreDeps,
): Promise<StoredBlob> {
  const { signal, claim } = attempt;
  const { tenantId } = claim;
  const announce = (blob: StoredBlob): Promise<void> =>
    persist(database, attempt, {
      body: (tx) => noteCopy(tx, tenantId, blob),
      landed: () => undefined,
    });
  return await artifacts.commit(staged, { tenantId, encrypt, announce, signal });
}
