import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import type { Addon } from '../../native/addon.ts';
import type { Clock } from '../core/clock.ts';
import { BuilderdError } from '../core/errors.ts';
import type { ProgressListener } from '../core/progress.ts';
import {
  convertImage,
  type ConvertResult,
  type OutputSpec,
  type TreeView,
} from '../rootfs/convert.ts';
import { type GuestPlan, planGuestFiles } from '../rootfs/guest/plan-guest-files.ts';
import { readAccounts } from '../rootfs/image-config/accounts.ts';
import { buildMetadata } from '../rootfs/image-config/build-metadata.ts';
import type { ImageConfig } from '../rootfs/image-config/image-config.ts';
import { parseImageConfig } from '../rootfs/image-config/parse-image-config.ts';
import { type ResolvedUser, resolveUser } from '../rootfs/image-config/resolve-user.ts';
import { stableJson } from '../rootfs/image-config/stable-json.ts';
import type { ConversionLimits } from '../rootfs/layer/layer-source.ts';
import { openScratch, stageFile, type StagedFile } from '../store/staged-file.ts';
import type { AcquiredImage, ImageRepository } from './ports.ts';
import type { ArtifactResult, BuildRequest, BuildResult } from './request.ts';

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
  const config = parseImageConfig(image.config, { layerCount: image.layers.length });
  for (const message of config.warnings)
    call.onProgress({ kind: 'notice', level: 'warning', message });

  await using files = new AsyncDisposableStack();
  const paths = outputPaths(request);
  const artifacts: { staged: StagedFile; format: (typeof request.formats)[number] }[] = [];
  for (const format of request.formats) {
    artifacts.push({ format, staged: files.use(await stageFile(paths.artifact(format))) });
  }
  let user: ResolvedUser | undefined;
  const notices = [...config.warnings];
  const converted = await convertImage({
    layers: image.layers,
    outputs: artifacts.map(({ format, staged }) => outputSpec(format, staged.handle, request)),
    openScratch: async () => files.use(await openScratch(paths.metadata)),
    policy: { devices: request.devices, sourceDateEpoch: request.sourceDateEpoch },
    limits: deps.limits,
    addon: deps.addon,
    prepare: async (view) => {
      user = await userOf(view, config, call);
      if (!request.guestFiles) return [];
      const plan = guestPlan(view, config, user, image, deps);
      notices.push(...plan.notices);
      return plan.additions;
    },
    ...call,
  });

  call.onProgress({ kind: 'phase', phase: 'commit', state: 'started' });
  const results: ArtifactResult[] = converted.artifacts.map((artifact, i) => ({
    ...artifact,
    path: artifacts[i]?.staged.finalPath ?? '',
  }));
  const metadata = files.use(await stageFile(paths.metadata));
  const fidelity = files.use(await stageFile(paths.fidelity));
  await metadata.handle.writeFile(
    metadataText({ request, image, config, user, converted, results, startedAt, deps }),
  );
  await fidelity.handle.writeFile(fidelityText(image, converted, notices));
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

function outputSpec(
  format: BuildRequest['formats'][number],
  handle: FileHandle,
  request: BuildRequest,
): OutputSpec {
  return format === 'ext4' ? { format, handle, options: request.ext4 } : { format, handle };
}

async function userOf(view: TreeView, config: ImageConfig, call: BuildCall): Promise<ResolvedUser> {
  const accounts = await readAccounts(view.tree, (inode) => view.readFile(inode), call);
  return resolveUser(config.user, accounts);
}

function guestPlan(
  { tree }: TreeView,
  config: ImageConfig,
  user: ResolvedUser,
  image: AcquiredImage,
  { guestInit }: BuildDeps,
): GuestPlan {
  const init = guestInit === undefined ? {} : { init: guestInit };
  return planGuestFiles({ tree, config, user, imageDigest: image.target.digest, ...init });
}

interface MetadataFacts {
  readonly request: BuildRequest;
  readonly image: AcquiredImage;
  readonly config: ImageConfig;
  readonly user: ResolvedUser | undefined;
  readonly converted: ConvertResult;
  readonly results: readonly ArtifactResult[];
  readonly startedAt: Date;
  readonly deps: BuildDeps;
}

function metadataText(facts: MetadataFacts): string {
  const { request, image, config, converted, startedAt, deps, user } = facts;
  if (user === undefined) {
    throw new BuilderdError(
      'internal',
      'Cannot describe the artifact: its user was never resolved',
    );
  }
  return buildMetadata({
    builderdVersion: deps.version,
    reference: image.reference,
    target: image.target,
    manifest: image.manifest,
    configDescriptor: image.configDescriptor,
    platform: image.platform,
    layers: image.layers,
    config,
    user,
    counts: converted.counts,
    artifacts: facts.results.map((result) => ({ ...result, file: path.basename(result.path) })),
    guestFiles: request.guestFiles,
    ...(request.sourceDateEpoch === undefined ? {} : { sourceDateEpoch: request.sourceDateEpoch }),
    startedAt,
    finishedAt: deps.clock.now(),
  });
}

function fidelityText(
  image: AcquiredImage,
  { counts, plainBytes, fidelity }: ConvertResult,
  notices: readonly string[],
): string {
  return stableJson({
    schema: 'builderd.fidelity.v1',
    source: { reference: image.reference, digest: image.target.digest },
    counts: { ...counts },
    plainBytes,
    notices: [...notices],
    notes: fidelity.notes.map((note) => ({ ...note, examples: [...note.examples] })),
  });
}
