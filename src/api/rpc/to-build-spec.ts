import { clone, toJsonString } from '@bufbuild/protobuf';
import { compileSchema } from '../../core/schema/compile-schema.ts';
import { type BuildSpec, BuildSpecSchema } from '../../builds/build-spec.ts';
import { BuilderdError } from '../../core/errors.ts';
import {
  type BuildConfig,
  BuildConfigSchema,
  type BuildSource,
  type BuildStrategy,
  type BuildTarget,
  InitStrategy,
  type MicroVMRootfs,
  type RuntimeConfig,
  type TenantResourceLimits,
} from './generated/builder_pb.js';

const schema = compileSchema(BuildSpecSchema);

/**
 * What a BuildConfig asks for, in our words, with the checks and their order of the wire contract
 * 1.7. Whatever this version cannot do is refused by its field's name: `not_supported`.
 */
export function toBuildSpec(config: BuildConfig | undefined): BuildSpec {
  if (config === undefined) throw missing('config');
  if (config.tenant === undefined) throw missing('config.tenant');
  if (config.tenant.tenantId === '') throw missing('config.tenant.tenant_id');
  if (config.source === undefined) throw missing('config.source');
  if (config.target === undefined) throw missing('config.target');
  if (config.strategy === undefined) throw missing('config.strategy');
  // Kept with the configuration and answered; this version registers artifacts nowhere.
  if (!ASSET_ID.test(config.suggestedAssetId)) throw malformed('config.suggested_asset_id');
  refuseStrategy(config.strategy);
  const timeout = timeoutOf(config.limits);
  const limits = limitsOf(config.limits);
  const spec = {
    source: sourceOf(config.source),
    target: { ...targetOf(config.target), ...filterOf(config.target, config.strategy) },
    ...(config.buildName === '' ? {} : { name: config.buildName }),
    ...(Object.keys(config.labels).length === 0 ? {} : { labels: config.labels }),
    ...(timeout === undefined ? {} : { timeoutSeconds: timeout }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  };
  if (schema.accepts(spec)) return spec;
  const first = schema.findFault(spec);
  throw new BuilderdError(
    'api.invalid',
    `Cannot use the request: config${first?.path ?? ''} ${first?.message ?? 'is not valid'}`,
  );
}

/** The configuration as it is kept and answered: without what is write-only. */
export function withoutSecrets(config: BuildConfig): string {
  const kept = clone(BuildConfigSchema, config);
  const source = kept.source?.sourceType;
  if (source?.case === 'dockerImage' || source?.case === 'gitRepository') delete source.value.auth;
  const text = toJsonString(BuildConfigSchema, kept);
  if (text.isWellFormed() && !text.includes('\\u0000')) return text;
  throw new BuilderdError(
    'api.invalid',
    'Cannot use the request: a text holds a NUL or half a character',
  );
}

function sourceOf({ sourceType }: BuildSource): BuildSpec['source'] {
  switch (sourceType.case) {
    case 'dockerImage': {
      const { imageUri, auth, pullTags } = sourceType.value;
      if (imageUri === '') throw missing('config.source.docker_image.image_uri');
      refuse(pullTags.length > 0, 'config.source.docker_image.pull_tags');
      const given = withoutEmpty({
        username: auth?.username,
        password: auth?.password,
        token: auth?.token,
        registry: auth?.registry,
      });
      return {
        image: { reference: imageUri, ...(Object.keys(given).length === 0 ? {} : { auth: given }) },
      };
    }
    case 'gitRepository': {
      const { repositoryUrl, ref, buildContext, auth } = sourceType.value;
      if (repositoryUrl === '') throw missing('config.source.git_repository.repository_url');
      const given = withoutEmpty({
        username: auth?.username,
        password: auth?.password,
        token: auth?.token,
        sshKey: auth?.sshKey,
      });
      return {
        git: {
          url: repositoryUrl,
          ...withoutEmpty({ ref, context: buildContext }),
          ...(Object.keys(given).length === 0 ? {} : { auth: given }),
        },
      };
    }
    case 'archive': {
      const { archiveUrl, archiveType, buildContext } = sourceType.value;
      if (archiveUrl === '') throw missing('config.source.archive.archive_url');
      return {
        archive: { url: archiveUrl, ...withoutEmpty({ type: archiveType, context: buildContext }) },
      };
    }
    default:
      throw missing('config.source.source_type');
  }
}

function targetOf({ targetType }: BuildTarget): NonNullable<BuildSpec['target']> {
  refuse(targetType.case === 'containerImage', 'config.target.container_image');
  return {
    formats: ['ext4'],
    ...(targetType.case === 'microvmRootfs' ? fromRootfs(targetType.value) : {}),
  };
}

/** Guests of the first builderd found their init in the image; only DIRECT goes without. */
function fromRootfs(rootfs: MicroVMRootfs): NonNullable<BuildSpec['target']> {
  const { initStrategy, runtimeConfig, optimization } = rootfs;
  const field = 'config.target.microvm_rootfs';
  refuse(initStrategy === InitStrategy.CUSTOM, `${field}.init_strategy CUSTOM`);
  refuse(optimization?.stripDebugSymbols === true, `${field}.optimization.strip_debug_symbols`);
  refuse(optimization?.compressBinaries === true, `${field}.optimization.compress_binaries`);
  const runtime = runtimeOf(runtimeConfig);
  return {
    guestFiles: initStrategy !== InitStrategy.DIRECT,
    ...(runtime === undefined ? {} : { runtime }),
  };
}

/** A message cannot tell an empty field from an absent one: both are what the image says. */
function runtimeOf(
  config: RuntimeConfig | undefined,
): NonNullable<BuildSpec['target']>['runtime'] | undefined {
  if (config === undefined) return undefined;
  const { command, entrypoint, workingDir, environment, exposedPorts } = config;
  const runtime = {
    ...(entrypoint.length === 0 ? {} : { entrypoint }),
    ...(command.length === 0 ? {} : { command }),
    ...(workingDir === '' ? {} : { workingDir }),
    ...(Object.keys(environment).length === 0 ? {} : { env: environment }),
    ...(exposedPorts.length === 0 ? {} : { exposedPorts }),
  };
  return Object.keys(runtime).length === 0 ? undefined : runtime;
}

/** Two messages name files to leave out, two name files to keep: both count. */
function filterOf(
  { targetType }: BuildTarget,
  { strategyType }: BuildStrategy,
): NonNullable<BuildSpec['target']> {
  const rootfs = targetType.case === 'microvmRootfs' ? targetType.value : undefined;
  const strategy = strategyType.case === 'dockerExtract' ? strategyType.value : undefined;
  const { optimization } = rootfs ?? {};
  const exclude = union(strategy?.excludePatterns, optimization?.excludePatterns);
  const preserve = union(rootfs?.preservePaths, optimization?.preservePaths);
  return {
    ...(exclude.length === 0 ? {} : { exclude }),
    ...(preserve.length === 0 ? {} : { preserve }),
    ...(optimization?.removeDocs === true ? { removeDocs: true } : {}),
    ...(optimization?.removeCache === true ? { removeCache: true } : {}),
  };
}

function union(...lists: readonly (readonly string[] | undefined)[]): string[] {
  return [...new Set(lists.flatMap((list) => list ?? []))];
}

function refuseStrategy({ strategyType }: BuildStrategy): void {
  const field = 'config.strategy';
  switch (strategyType.case) {
    case undefined:
      return;
    case 'dockerExtract':
      // Layers are always merged: flatten_filesystem asks for what happens anyway.
      refuse(strategyType.value.preserveLayers, `${field}.docker_extract.preserve_layers`);
      return;
    case 'goApi':
    case 'sinatra':
    case 'nodejs':
      refuse(true, `${field}.${STRATEGIES[strategyType.case]}`);
  }
}

const ASSET_ID = /^[A-Za-z0-9._:-]{0,128}$/;
const STRATEGIES = { goApi: 'go_api', sinatra: 'sinatra', nodejs: 'nodejs' } as const;

/** A request may lower what its own build gets; the other limits are the tenant's. */
function limitsOf(limits: TenantResourceLimits | undefined): NonNullable<BuildSpec['limits']> {
  const { maxMemoryBytes = 0n, maxDiskBytes = 0n } = limits ?? {};
  return {
    ...(maxMemoryBytes === 0n ? {} : { maxMemoryBytes: Number(maxMemoryBytes) }),
    ...(maxDiskBytes === 0n ? {} : { maxDiskBytes: Number(maxDiskBytes) }),
  };
}

/** The shorter of the two deadlines that a request can name; refuses what it cannot choose. */
function timeoutOf(limits: TenantResourceLimits | undefined): number | undefined {
  if (limits === undefined) return undefined;
  const {
    $typeName: _type,
    maxMemoryBytes: _memory,
    maxDiskBytes: _disk,
    timeoutSeconds,
    maxBuildTimeMinutes,
    ...rest
  } = limits;
  for (const [name, value] of Object.entries(rest)) {
    const isSet = Array.isArray(value) ? value.length > 0 : Boolean(value);
    refuse(isSet, `config.limits.${name.replaceAll(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)}`);
  }
  const wishes = [timeoutSeconds, maxBuildTimeMinutes * 60].filter((seconds) => seconds !== 0);
  return wishes.length === 0 ? undefined : Math.min(...wishes);
}

function withoutEmpty<K extends string>(
  values: Readonly<Record<K, string | undefined>>,
): Partial<Record<K, string>> {
  const kept: Partial<Record<K, string>> = {};
  for (const key in values) {
    const value = values[key];
    if (value !== undefined && value !== '') kept[key] = value;
  }
  return kept;
}

function malformed(field: string): BuilderdError {
  return new BuilderdError(
    'api.invalid',
    `Cannot create the build: ${field} is not at most 128 letters, digits and ._:-`,
  );
}

function missing(field: string): BuilderdError {
  return new BuilderdError('api.invalid', `Cannot create the build: ${field} is missing`);
}

function refuse(isAsked: boolean, field: string): void {
  if (!isAsked) return;
  throw new BuilderdError(
    'not_supported',
    `Cannot create the build: ${field} is not supported yet`,
  );
}
