import type { Addon } from '../../native/addon.ts';
import type { Clock } from '../core/clock.ts';
import { BuilderdError } from '../core/errors.ts';
import type { Descriptor, Platform } from '../core/oci.ts';
import type { OpenFile } from '../core/open-file.ts';
import type { ProgressListener } from '../core/progress.ts';
import {
  type ConvertedArtifact,
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
import { describeRuntime, withRuntime } from '../rootfs/image-config/runtime-overrides.ts';
import { stableJson } from '../rootfs/image-config/stable-json.ts';
import type { ConversionLimits, LayerSource } from '../rootfs/layer/layer-source.ts';
import type { BuildRequest, Format } from './request.ts';

const SHOWN_PATTERNS = 10;

/** What a conversion must know of an image; an AcquiredImage has it all. */
export interface ImageToConvert {
  readonly reference: string;
  readonly target: Descriptor;
  readonly manifest: Descriptor;
  readonly configDescriptor: Descriptor;
  readonly config: Buffer;
  readonly platform: Platform;
  /** Bottom to top. */
  readonly layers: readonly LayerSource[];
}

export interface BuildOutput {
  readonly format: Format;
  /** Empty, open for reading and writing. */
  readonly handle: OpenFile;
  /** The same file once more with O_DIRECT, from who may open it. */
  readonly direct?: OpenFile;
  /** What metadata.json calls it. */
  readonly file: string;
}

/** What the conversion is asked for, wherever it runs. */
export interface ConversionSpec
  extends Pick<
    BuildRequest,
    'ext4' | 'guestFiles' | 'devices' | 'filter' | 'runtime' | 'sourceDateEpoch'
  > {
  readonly image: ImageToConvert;
  readonly outputs: readonly BuildOutput[];
  /** An empty file for data while no ext4 output can hold it; the caller closes it. */
  readonly openScratch: () => Promise<OpenFile>;
  readonly startedAt: Date;
  /** The program that becomes /usr/bin/metald-init with guest files. */
  readonly guestInit?: Buffer;
}

export interface ConversionDeps {
  readonly addon: Addon | undefined;
  readonly limits: ConversionLimits;
  readonly clock: Clock;
  readonly version: string;
}

export interface ConversionCall {
  readonly signal: AbortSignal;
  readonly onProgress: ProgressListener;
}

export interface BuildConversion {
  /** In the order of the outputs; every file is hashed and fsynced. */
  readonly artifacts: readonly ConvertedArtifact[];
  /** metadata.json. */
  readonly metadataText: string;
  /** fidelity.json. */
  readonly fidelityText: string;
}

/**
 * An image's blobs in, artifacts and their descriptions out: what the command line does in its own
 * process and the service in a worker. Touches only the descriptors that it was given.
 */
export async function convertBuild(
  spec: ConversionSpec,
  deps: ConversionDeps,
  call: ConversionCall,
): Promise<BuildConversion> {
  const { image } = spec;
  const config = parseImageConfig(image.config, { layerCount: image.layers.length });
  for (const message of config.warnings)
    call.onProgress({ kind: 'notice', level: 'warning', message });
  let user: ResolvedUser | undefined;
  const notices = [...config.warnings];
  const converted = await convertImage({
    layers: image.layers,
    outputs: spec.outputs.map((output) => outputSpec(output, spec)),
    openScratch: spec.openScratch,
    policy: { devices: spec.devices, sourceDateEpoch: spec.sourceDateEpoch },
    filter: spec.filter,
    identity: identityOf(spec),
    limits: deps.limits,
    addon: deps.addon,
    prepare: async (view) => {
      user = await userOf(view, config, call);
      if (!spec.guestFiles) return [];
      const plan = guestPlan(view, withRuntime(config, spec.runtime), user, spec);
      notices.push(...plan.notices);
      return plan.additions;
    },
    ...call,
  });
  for (const message of filterNotices(converted)) {
    notices.push(message);
    call.onProgress({ kind: 'notice', level: 'info', message });
  }
  return {
    artifacts: converted.artifacts,
    metadataText: metadataText(spec, { config, user, converted, deps }),
    fidelityText: fidelityText(image, converted, notices),
  };
}

function filterNotices({ fidelity, unmatchedPatterns }: ConvertResult): string[] {
  const notices: string[] = [];
  const excluded = fidelity.notes.find(({ code }) => code === 'excluded');
  if (excluded !== undefined) {
    const entries = excluded.count === 1 ? 'entry' : 'entries';
    notices.push(`Left out ${excluded.count} ${entries} of the image`);
  }
  if (unmatchedPatterns.length > 0) {
    const shown = unmatchedPatterns.slice(0, SHOWN_PATTERNS).map((one) => shortened(one));
    const rest = unmatchedPatterns.length - shown.length;
    const more = rest === 0 ? '' : ` and ${rest} more`;
    notices.push(`Nothing in the image matches ${shown.join(', ')}${more}`);
  }
  return notices;
}

/** Notices become log lines, which have a largest size. */
function shortened(pattern: string): string {
  return JSON.stringify(pattern.length > 80 ? `${pattern.slice(0, 80)}…` : pattern);
}

/** What makes the disk another one, beside its layers: the guest contract holds it. */
function identityOf({ guestFiles, runtime }: ConversionSpec): string {
  return guestFiles && runtime !== undefined ? stableJson(describeRuntime(runtime)) : '';
}

function outputSpec({ format, handle, direct }: BuildOutput, spec: ConversionSpec): OutputSpec {
  if (format === 'ext4') return { format, handle, options: spec.ext4 };
  return direct === undefined ? { format, handle } : { format, handle, direct };
}

async function userOf(
  view: TreeView,
  config: ImageConfig,
  call: ConversionCall,
): Promise<ResolvedUser> {
  const accounts = await readAccounts(view.tree, (inode) => view.readFile(inode), call);
  return resolveUser(config.user, accounts);
}

function guestPlan(
  { tree }: TreeView,
  config: ImageConfig,
  user: ResolvedUser,
  { image, guestInit }: ConversionSpec,
): GuestPlan {
  const init = guestInit === undefined ? {} : { init: guestInit };
  return planGuestFiles({ tree, config, user, imageDigest: image.target.digest, ...init });
}

interface MetadataFacts {
  readonly config: ImageConfig;
  readonly user: ResolvedUser | undefined;
  readonly converted: ConvertResult;
  readonly deps: ConversionDeps;
}

function metadataText(spec: ConversionSpec, facts: MetadataFacts): string {
  const { image, outputs } = spec;
  const { config, converted, deps, user } = facts;
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
    artifacts: converted.artifacts.map((artifact, i) => ({
      ...artifact,
      file: outputs[i]?.file ?? '',
    })),
    guestFiles: spec.guestFiles,
    ...(spec.filter === undefined ? {} : { filter: spec.filter }),
    ...(spec.runtime === undefined ? {} : { runtime: spec.runtime }),
    ...(spec.sourceDateEpoch === undefined ? {} : { sourceDateEpoch: spec.sourceDateEpoch }),
    startedAt: spec.startedAt,
    finishedAt: deps.clock.now(),
  });
}

function fidelityText(
  image: ImageToConvert,
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
