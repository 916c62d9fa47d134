import { basename } from 'node:path';
import { BuilderdError } from '../../../core/errors.ts';
import type { Artifact } from '../client/answers.ts';
import { downloadArtifact } from '../client/download.ts';
import type { Session } from '../session.ts';
import { createTransferView } from '../view/transfer-view.ts';

export interface Place {
  readonly artifact: Artifact;
  readonly path: string;
}

/** The server's name as a name of ours: one that could leave the directory is refused. */
export function fileName(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name) && basename(name) === name) return name;
  throw new BuilderdError(
    'server.invalid',
    'Cannot save the artifact: its name is no name of a file; use -o FILE',
  );
}

/** Fetches one after another: the connection is the bottleneck, and one progress line is readable. */
export async function saveAll(
  { client, host, signal, isJson }: Session,
  id: string,
  places: readonly Place[],
  { isSilent }: { readonly isSilent: boolean },
): Promise<readonly Saved[]> {
  const saved: Saved[] = [];
  for (const { artifact, path } of places) {
    const { name, digest, sizeBytes } = artifact;
    using view = createTransferView(host, { name, sizeBytes, isSilent: isSilent || isJson });
    await downloadArtifact(client, { id, artifact }, path, {
      signal,
      onProgress: view.onProgress,
      onCut: view.onCut,
    });
    saved.push({ name, path, digest, sizeBytes });
  }
  return saved;
}

interface Saved {
  readonly name: string;
  readonly path: string;
  readonly digest: string;
  readonly sizeBytes: number;
}
