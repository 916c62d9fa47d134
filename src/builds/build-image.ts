import path from 'node:path';
import type { Addon } from '../../native/addon.ts';
import type { Clock } from '../core/clock.ts';
import type { ProgressListener } from '../core/progress.ts';
import type { ConversionLimits } from '../rootfs/layer/layer-source.ts';
import { openScratch, stageFile, type StagedFile } from '../store/staged-file.ts';
import { convertBuild } from './convert-build.ts';
import type { ImageRepository } from './ports.ts';
import type { ArtifactResult, BuildRequest, BuildResult, Format } from './request.ts';

export interface BuildDeps {
  readonly images: ImageRepository;
  readonly addon: Addon | undefined;
  readonly limits: ConversionLimits;
  readonly clock: Clock;
  readonly version: string;
  /** The program that becomes /usr/bin/metald-init with guest files. */
  readonly guestInit?: Buffer;
}

export interface BuildCall {
  readonly signal: AbortSignal;
  readonly onProgress: ProgressListener;
}

/**
 * One build of an image: acquire, convert, publish. Nothing appears under a final name before all
 * of it is complete, hashed and fsynced; on any fault staged files are removed, the image's lease
 * is given back, and older artifacts of the same names stay as they were.
 */
export async function buildImage(
  request: BuildRequest,
  deps: BuildDeps,
  call: BuildCall,
): Promise<BuildResult> {
  const startedAt = deps.clock.now();
  await using image = await deps.images.acquire(request.source, { ...request, ...call });

  await using files = new AsyncDisposableStack();
  const paths = outputPaths(request);
  const artifacts: { staged: StagedFile; format: Format }[] = [];
  for (const format of request.formats) {
    artifacts.push({ format, staged: files.use(await stageFile(paths.artifact(format))) });
  }
  const spec = {
    ...request,
    image,
    outputs: artifacts.map(({ format, staged: { handle, finalPath } }) => ({
      format,
      handle,
      file: path.basename(finalPath),
    })),
    openScratch: async () => files.use(await openScratch(paths.metadata)),
    startedAt,
    ...(deps.guestInit === undefined ? {} : { guestInit: deps.guestInit }),
  };
  const converted = await convertBuild(spec, deps, call);

  call.onProgress({ kind: 'phase', phase: 'commit', state: 'started' });
  const results: ArtifactResult[] = converted.artifacts.map((artifact, i) => ({
    ...artifact,
    path: artifacts[i]?.staged.finalPath ?? '',
  }));
  const metadata = files.use(await stageFile(paths.metadata));
  const fidelity = files.use(await stageFile(paths.fidelity));
  await metadata.handle.writeFile(converted.metadataText);
  await fidelity.handle.writeFile(converted.fidelityText);
  // The artifacts come last: whoever sees one finds its description beside it.
  for (const staged of [metadata, fidelity, ...artifacts.map((one) => one.staged)])
    await staged.publish();
  call.onProgress({ kind: 'phase', phase: 'commit', state: 'done' });
  return {
    reference: image.reference,
    imageDigest: image.target.digest,
    artifacts: results,
    metadataPath: paths.metadata,
    fidelityPath: paths.fidelity,
    durationMs: deps.clock.now().getTime() - startedAt.getTime(),
  };
}

interface OutputPaths {
  artifact(format: string): string;
  readonly metadata: string;
  readonly fidelity: string;
}

function outputPaths({ output }: BuildRequest): OutputPaths {
  if (output.kind === 'file') {
    return {
      artifact: () => output.path,
      metadata: `${output.path}.metadata.json`,
      fidelity: `${output.path}.fidelity.json`,
    };
  }
  return {
    artifact: (format) => path.join(output.path, `rootfs.${format}`),
    metadata: path.join(output.path, 'metadata.json'),
    fidelity: path.join(output.path, 'fidelity.json'),
  };
}
