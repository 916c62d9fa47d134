import { BuilderdError } from '../../core/errors.ts';
import type { Scope } from '../../core/scope.ts';
import type { NewArtifact } from '../../store/artifacts/artifact-rows.ts';
import type { ArtifactStore, StagedArtifact } from '../../store/artifacts/artifact-store.ts';
import type { Format } from '../request.ts';
import type { ClaimedArtifact } from '../worker/converter.ts';
import type { Attempt } from './attempt.ts';

export interface StagedOutput {
  readonly format: Format;
  readonly staged: StagedArtifact;
}

interface StoreDeps {
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
  { claim, signal }: Attempt,
  { format, staged }: StagedOutput,
  claimed: ClaimedArtifact,
  { artifacts, encrypt }: StoreDeps,
): Promise<NewArtifact> {
  const { name, mediaType } = FILES[format];
  const blob = await artifacts.commit(staged, { tenantId: claim.tenantId, encrypt, signal });
  if (blob.digest !== claimed.digest || blob.sizeBytes !== claimed.sizeBytes) {
    throw new BuilderdError(
      'internal',
      `Cannot store ${name}: it has ${blob.sizeBytes} bytes and digest ${blob.digest}, its maker said ${claimed.sizeBytes} and ${claimed.digest}`,
    );
  }
  return { name, format, mediaType, blob };
}

export async function storeDocument(
  { claim, signal }: Attempt,
  name: DocumentName,
  text: string,
  { artifacts, encrypt }: StoreDeps,
): Promise<NewArtifact> {
  const request = { buildId: claim.buildId, attempt: claim.attempt, name };
  await using staged = await artifacts.stage(request, { signal });
  await staged.handle.writeFile(text);
  const blob = await artifacts.commit(staged, { tenantId: claim.tenantId, encrypt, signal });
  return { name, ...DOCUMENTS[name], blob };
}
