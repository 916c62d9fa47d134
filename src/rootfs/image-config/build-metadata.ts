import { escapeBytes } from '../../core/bytes.ts';
import type { Digest } from '../../core/digest.ts';
import type { Descriptor, Platform } from '../../core/oci.ts';
import type { FilterSpec } from '../filter/filter-spec.ts';
import type { MergedTree } from '../tree.ts';
import type { ExposedPort, ImageConfig } from './image-config.ts';
import type { ResolvedUser } from './resolve-user.ts';
import { describeRuntime, type RuntimeOverrides, withRuntime } from './runtime-overrides.ts';
import { stableJson, type JsonValue } from './stable-json.ts';

export interface MetadataLayer extends Descriptor {
  readonly diffId: Digest;
}

export interface MetadataArtifact {
  readonly format: string;
  /** Name of the file beside the metadata, without directories of this host. */
  readonly file: string;
  readonly sizeBytes: number;
  readonly digest: string;
}

export interface MetadataInput {
  readonly builderdVersion: string;
  readonly reference: string;
  /** What the reference resolved to: an index or a manifest. */
  readonly target: Descriptor;
  readonly manifest: Descriptor;
  readonly configDescriptor: Descriptor;
  readonly platform: Platform;
  readonly layers: readonly MetadataLayer[];
  readonly config: ImageConfig;
  readonly user: ResolvedUser;
  readonly counts: MergedTree['counts'];
  readonly artifacts: readonly MetadataArtifact[];
  readonly guestFiles: boolean;
  readonly filter?: FilterSpec;
  readonly runtime?: RuntimeOverrides;
  readonly sourceDateEpoch?: number;
  readonly startedAt: Date;
  readonly finishedAt: Date;
}

/**
 * The text of metadata.json. Everything but `times` depends on the image and the request alone.
 * The snake_case keys at the end are those of the first builderd, for programs that read them: what
 * the guest runs, whereas `config` is what the image says.
 */
export function buildMetadata(input: MetadataInput): string {
  const { config, runtime } = input;
  const effective = withRuntime(config, runtime);
  return stableJson({
    schema: 'builderd.metadata.v1',
    builderd: { version: input.builderdVersion },
    source: {
      reference: input.reference,
      digest: input.target.digest,
      mediaType: input.target.mediaType,
    },
    manifest: describe(input.manifest),
    configDescriptor: describe(input.configDescriptor),
    platform: platformOf(input.platform),
    layers: input.layers.map((layer) => ({ ...describe(layer), diffId: layer.diffId })),
    config: configOf(config),
    resolvedUser: userOf(input.user),
    contents: {
      entries: input.counts.entries,
      inodes: input.counts.inodes,
      directories: input.counts.directories,
      contentBytes: input.counts.contentBytes,
    },
    artifacts: input.artifacts.map(({ format, file, sizeBytes, digest }) => ({
      format,
      file,
      sizeBytes,
      digest,
    })),
    guestFiles: input.guestFiles,
    filter: filterOf(input.filter),
    runtime: runtime === undefined ? undefined : describeRuntime(runtime),
    sourceDateEpoch: input.sourceDateEpoch,
    times: {
      started: input.startedAt.toISOString(),
      finished: input.finishedAt.toISOString(),
    },
    warnings: config.warnings,

    original_image: input.reference,
    image_digest: input.target.digest,
    command: effective.cmd,
    entrypoint: effective.entrypoint,
    working_dir: effective.workingDir,
    env: effective.env,
    exposed_ports: effective.exposedPorts.map(portText),
    user: `${input.user.uid}:${input.user.gid}`,
    volumes: config.volumes,
    labels: config.labels,
  });
}

function filterOf(filter: FilterSpec | undefined): JsonValue | undefined {
  if (filter === undefined) return undefined;
  const { exclude, preserve, removeDocs, removeCache } = filter;
  return { exclude, preserve, removeDocs, removeCache };
}

function describe({ mediaType, digest, size }: Descriptor): Record<string, JsonValue> {
  return { mediaType, digest, sizeBytes: size };
}

function platformOf({ os, architecture, variant }: Platform): JsonValue {
  return { os, architecture, variant };
}

/** The config in the spelling of the OCI document. */
function configOf(config: ImageConfig): JsonValue {
  const { healthcheck } = config;
  return {
    os: config.os,
    architecture: config.architecture,
    variant: config.variant,
    osVersion: config.osVersion,
    author: config.author,
    created: config.created,
    historyCount: config.historyCount,
    Env: [...config.env].map(([name, value]) => `${name}=${value}`),
    Entrypoint: config.entrypoint,
    Cmd: config.cmd,
    WorkingDir: config.workingDir,
    User: config.userText,
    ExposedPorts: config.exposedPorts.map(portText),
    Volumes: config.volumes,
    StopSignal: config.stopSignal?.name,
    Labels: config.labels,
    Healthcheck: healthcheck && {
      Test: healthcheck.test,
      Interval: healthcheck.intervalNs,
      Timeout: healthcheck.timeoutNs,
      StartPeriod: healthcheck.startPeriodNs,
      StartInterval: healthcheck.startIntervalNs,
      Retries: healthcheck.retries,
    },
    OnBuild: config.onBuild,
    Shell: config.shell,
    ArgsEscaped: config.argsEscaped,
  };
}

function userOf(user: ResolvedUser): JsonValue {
  return {
    uid: user.uid,
    gid: user.gid,
    additionalGids: user.additionalGids,
    name: user.name === undefined ? undefined : escapeBytes(user.name),
    home: user.home === undefined ? undefined : escapeBytes(user.home),
  };
}

export function portText({ port, lastPort, protocol }: ExposedPort): string {
  return lastPort === port ? `${port}/${protocol}` : `${port}-${lastPort}/${protocol}`;
}
