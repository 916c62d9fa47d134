import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { BuildConfigSchema, InitStrategy } from '../../src/api/rpc/generated/builder_pb.js';
import { toBuildSpec } from '../../src/api/rpc/to-build-spec.ts';
import type { BuildSpec } from '../../src/builds/build-spec.ts';

type Config = MessageInitShape<typeof BuildConfigSchema>;
type Rootfs = Extract<
  NonNullable<NonNullable<Config['target']>['targetType']>,
  { case: 'microvmRootfs' }
>['value'];
type Strategy = Extract<
  NonNullable<NonNullable<Config['strategy']>['strategyType']>,
  { case: 'dockerExtract' }
>['value'];
type Image = Extract<
  NonNullable<NonNullable<Config['source']>['sourceType']>,
  { case: 'dockerImage' }
>['value'];

interface Parts {
  readonly image?: Image;
  readonly rootfs?: Rootfs;
  readonly strategy?: Strategy;
  readonly limits?: NonNullable<Config['limits']>;
  readonly suggestedAssetId?: string;
}

function specOf({ image, rootfs = {}, strategy = {}, ...rest }: Parts): BuildSpec {
  return toBuildSpec(
    create(BuildConfigSchema, {
      tenant: { tenantId: 'acme' },
      source: {
        sourceType: { case: 'dockerImage', value: { imageUri: 'debian:12', ...image } },
      },
      target: { targetType: { case: 'microvmRootfs', value: rootfs } },
      strategy: { strategyType: { case: 'dockerExtract', value: strategy } },
      ...rest,
    }),
  );
}

const TARGETS: readonly (readonly [string, Parts, NonNullable<BuildSpec['target']>])[] = [
  ['nothing', {}, {}],
  ['docker_extract.exclude_patterns', { strategy: { excludePatterns: ['a'] } }, { exclude: ['a'] }],
  [
    'optimization.exclude_patterns, joined with those of the strategy',
    {
      strategy: { excludePatterns: ['a', 'b'] },
      rootfs: { optimization: { excludePatterns: ['b', 'c'] } },
    },
    { exclude: ['a', 'b', 'c'] },
  ],
  ['preserve_paths', { rootfs: { preservePaths: ['a'] } }, { preserve: ['a'] }],
  [
    'optimization.preserve_paths, joined with those of the rootfs',
    { rootfs: { preservePaths: ['a'], optimization: { preservePaths: ['b', 'a'] } } },
    { preserve: ['a', 'b'] },
  ],
  ['remove_docs', { rootfs: { optimization: { removeDocs: true } } }, { removeDocs: true }],
  ['remove_cache', { rootfs: { optimization: { removeCache: true } } }, { removeCache: true }],
  [
    'runtime_config',
    {
      rootfs: {
        runtimeConfig: {
          command: ['-c'],
          entrypoint: ['/sh'],
          workingDir: '/srv',
          environment: { A: '1' },
          exposedPorts: ['80'],
        },
      },
    },
    {
      runtime: {
        entrypoint: ['/sh'],
        command: ['-c'],
        workingDir: '/srv',
        env: { A: '1' },
        exposedPorts: ['80'],
      },
    },
  ],
  ['an empty runtime_config, which changes nothing', { rootfs: { runtimeConfig: {} } }, {}],
  ['TINI', { rootfs: { initStrategy: InitStrategy.TINI } }, {}],
  ['DIRECT', { rootfs: { initStrategy: InitStrategy.DIRECT } }, { guestFiles: false }],
  ['flatten_filesystem, which always happens', { strategy: { flattenFilesystem: true } }, {}],
  ['suggested_asset_id, which is only kept', { suggestedAssetId: 'asset_01J:a.b-c' }, {}],
];
for (const [what, parts, target] of TARGETS) {
  test(`toBuildSpec() takes ${what}`, () => {
    assert.deepEqual(specOf(parts).target, { formats: ['ext4'], guestFiles: true, ...target });
  });
}

test('toBuildSpec() takes the limits of a single build', () => {
  const limits = {
    maxMemoryBytes: 2n ** 28n,
    maxDiskBytes: 2n ** 30n,
    timeoutSeconds: 90,
    maxBuildTimeMinutes: 1,
  };
  const spec = specOf({ limits });
  assert.deepEqual(spec.limits, { maxMemoryBytes: 2 ** 28, maxDiskBytes: 2 ** 30 });
  assert.equal(spec.timeoutSeconds, 60);
  assert.equal(specOf({ limits: {} }).limits, undefined);
});

test('toBuildSpec() takes the registry of a login', () => {
  const auth = { username: 'u', password: 'p', registry: 'docker.io' };
  assert.deepEqual(specOf({ image: { auth } }).source, {
    image: { reference: 'debian:12', auth },
  });
});

const REFUSED: readonly (readonly [string, Parts, string])[] = [
  ['pull_tags', { image: { pullTags: ['12'] } }, 'not_supported'],
  ['preserve_layers', { strategy: { preserveLayers: true } }, 'not_supported'],
  [
    'strip_debug_symbols',
    { rootfs: { optimization: { stripDebugSymbols: true } } },
    'not_supported',
  ],
  ['CUSTOM', { rootfs: { initStrategy: InitStrategy.CUSTOM } }, 'not_supported'],
  [
    'a variable with a space in its name',
    { rootfs: { runtimeConfig: { environment: { 'A B': '' } } } },
    'api.invalid',
  ],
  ['compress_binaries', { rootfs: { optimization: { compressBinaries: true } } }, 'not_supported'],
  ['max_cpu_cores', { limits: { maxCpuCores: 1 } }, 'not_supported'],
  ['max_concurrent_builds', { limits: { maxConcurrentBuilds: 1 } }, 'not_supported'],
  ['max_daily_builds', { limits: { maxDailyBuilds: 1 } }, 'not_supported'],
  ['max_storage_bytes', { limits: { maxStorageBytes: 1n } }, 'not_supported'],
  ['allowed_registries', { limits: { allowedRegistries: ['a'] } }, 'not_supported'],
  ['allowed_git_hosts', { limits: { allowedGitHosts: ['a'] } }, 'not_supported'],
  ['allow_external_network', { limits: { allowExternalNetwork: true } }, 'not_supported'],
  ['allow_privileged_builds', { limits: { allowPrivilegedBuilds: true } }, 'not_supported'],
  ['blocked_commands', { limits: { blockedCommands: ['a'] } }, 'not_supported'],
  ['sandbox_level', { limits: { sandboxLevel: 1 } }, 'not_supported'],
  ['max_memory_bytes below zero', { limits: { maxMemoryBytes: -1n } }, 'api.invalid'],
  ['max_memory_bytes below 256 MiB', { limits: { maxMemoryBytes: 2n ** 27n } }, 'api.invalid'],
  ['max_disk_bytes below a MiB', { limits: { maxDiskBytes: 1n } }, 'api.invalid'],
  ['max_disk_bytes beyond numbers', { limits: { maxDiskBytes: 2n ** 63n - 1n } }, 'api.invalid'],
  ['an asset id with a slash', { suggestedAssetId: '../x' }, 'api.invalid'],
  ['an asset id of 129 bytes', { suggestedAssetId: 'a'.repeat(129) }, 'api.invalid'],
  [
    '257 patterns in two fields',
    {
      strategy: { excludePatterns: Array.from({ length: 200 }, (_each, n) => `a${n}`) },
      rootfs: {
        optimization: { excludePatterns: Array.from({ length: 57 }, (_each, n) => `b${n}`) },
      },
    },
    'api.invalid',
  ],
  [
    'a pattern of 1,025 bytes',
    { strategy: { excludePatterns: ['a'.repeat(1025)] } },
    'api.invalid',
  ],
  ['a NUL in a pattern', { strategy: { excludePatterns: ['a\0'] } }, 'api.invalid'],
];
for (const [what, parts, code] of REFUSED) {
  test(`toBuildSpec() refuses ${what}`, () => {
    assert.throws(() => specOf(parts), { code });
  });
}
