import { createHash } from 'node:crypto';
import { BuilderdError } from '../../../core/errors.ts';
import type { Artifact } from './answers.ts';
import type { ApiClient } from './api-client.ts';

/** An artifact into a pipe. Its bytes are verified too, but the reader has them before that. */
export async function streamArtifact(
  client: ApiClient,
  { id, artifact }: { readonly id: string; readonly artifact: Artifact },
  options: {
    readonly signal: AbortSignal;
    readonly write: (bytes: Uint8Array) => Promise<void>;
  },
): Promise<void> {
  const { name, sizeBytes, digest } = artifact;
  const path = `/v1/builds/${encodeURIComponent(id)}/artifacts/${encodeURIComponent(name)}`;
  const answer = await client.open(path, {
    doing: `fetch ${name}`,
    signal: options.signal,
    headers: { accept: 'application/octet-stream, application/json' },
  });
  const hash = createHash('sha256');
  let done = 0;
  for await (const chunk of answer.body) {
    done += chunk.length;
    if (done > sizeBytes) {
      throw new BuilderdError(
        'server.invalid',
        `Cannot fetch ${name}: the server sends more than its ${sizeBytes} bytes`,
      );
    }
    hash.update(chunk);
    await options.write(chunk);
  }
  if (`sha256:${hash.digest('hex')}` === digest) return;
  throw new BuilderdError(
    'artifact.corrupt',
    `Cannot trust what was written: its bytes are not those of ${digest.slice(0, 80)}`,
  );
}
