import { existsSync } from 'node:fs';
import path from 'node:path';
import { loadAddon } from '../../native/addon.ts';
import { buildImage } from '../builds/build-image.ts';
import type { ImageRepository } from '../builds/ports.ts';
import type { BuildRequest, BuildResult } from '../builds/request.ts';
import { systemClock } from '../core/clock.ts';
import { BuilderdError, messageOf } from '../core/errors.ts';
import type { ProgressListener } from '../core/progress.ts';
import { formatDuration } from '../core/units.ts';
import { parseEgressAllow } from '../egress/allow-list.ts';
import { createDialer } from '../egress/dialer.ts';
import { DEFAULT_CONVERSION_LIMITS } from '../rootfs/layer/layer-source.ts';
import { ContainerdClient } from '../runtime/containerd-client.ts';
import { createImageRepository } from '../runtime/pull/image-repository.ts';
import { dockerCredentials, NO_CREDENTIALS } from '../runtime/registry/credentials.ts';
import { hostsConfig } from '../runtime/registry/hosts-config.ts';
import { parseReference } from '../runtime/registry/reference.ts';
import { openStoreSession } from '../runtime/store-session.ts';
import type { Config, Settings } from './config.ts';
import { builderdVersion } from './version.ts';

export interface ComposeOptions {
  readonly config: Config;
  readonly containerdAddress: string;
  readonly namespace: string;
  /** The program that becomes /usr/bin/metald-init. */
  readonly guestInit?: Buffer;
}

export interface RunOptions {
  readonly signal: AbortSignal;
  readonly onProgress: ProgressListener;
}

/** Everything that one build needs, joined. */
export interface ComposedBuild {
  run(request: BuildRequest, options: RunOptions): Promise<BuildResult>;
}

/** Where containerd itself looks for mirrors and registry certificates. */
const CERTS_DIR = '/etc/containerd/certs.d';
/** A lease cannot be prolonged: longer than any build may take, short enough to clean up a crash. */
const LEASE_TTL_MS = 24 * 60 * 60_000;
const GB = 1000 ** 3;

/** The one place where adapters are made and joined. */
export function composeBuild(options: ComposeOptions): ComposedBuild {
  return {
    async run(request, call) {
      const { config, namespace } = options;
      const { settings } = config;
      checkSource(request, settings);
      const warn = (message: string): void =>
        call.onProgress({ kind: 'notice', level: 'warning', message });
      using client = await ContainerdClient.connect({
        address: options.containerdAddress,
        signal: call.signal,
      });
      await using dialer = createDialer({
        allow: parseEgressAllow(settings.EGRESS_ALLOW.join(',')),
      });
      const images = createImageRepository({
        openSession: ({ signal }) =>
          openStoreSession(client, {
            namespace,
            leaseTtlMs: LEASE_TTL_MS,
            signal,
            onCleanupFault: (fault) => warn(fault.message),
            ...(config.given.has('SCRATCH_DIR') ? { scratchDir: settings.SCRATCH_DIR } : {}),
          }),
        registry: {
          dialer,
          hosts: hostsConfig(existsSync(CERTS_DIR) ? CERTS_DIR : undefined),
          credentials: settings.DOCKER_REGISTRY_AUTH
            ? dockerCredentials({
                configPath: path.join(config.dockerConfigDir, 'config.json'),
                helperEnv: { PATH: config.searchPath, HOME: path.dirname(config.dockerConfigDir) },
              })
            : NO_CREDENTIALS,
          trustedRealms: new Set(settings.TRUSTED_REALMS),
        },
        maxImageBytes: settings.DOCKER_MAX_IMAGE_SIZE_GB * GB,
        onCleanupFault: (step, reason) => warn(`Cannot ${step}: ${messageOf(reason)}`),
      });
      const guestInit = options.guestInit === undefined ? {} : { guestInit: options.guestInit };
      // Awaited here: the connection and the dialer end with this block.
      return await buildImage(
        request,
        {
          images: withPullLimit(images, config),
          addon: loadAddon(),
          limits: DEFAULT_CONVERSION_LIMITS,
          clock: systemClock,
          version: builderdVersion(),
          ...guestInit,
        },
        call,
      );
    },
  };
}

/** UNKEY_BUILDERD_DOCKER_PULL_TIMEOUT, when it is set, bounds everything up to the last blob. */
function withPullLimit(images: ImageRepository, { settings, given }: Config): ImageRepository {
  if (!given.has('DOCKER_PULL_TIMEOUT')) return images;
  const limitMs = settings.DOCKER_PULL_TIMEOUT;
  return {
    async acquire(source, options) {
      const limit = new AbortController();
      const timer = setTimeout(() => {
        const fact = `it took longer than ${formatDuration(limitMs)}`;
        limit.abort(new BuilderdError('build.timeout', `Cannot pull the image: ${fact}`));
      }, limitMs);
      try {
        const signal = AbortSignal.any([options.signal, limit.signal]);
        return await images.acquire(source, { ...options, signal });
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

/** A setting that restricts must never be silently without effect. */
function checkSource({ source }: BuildRequest, settings: Settings): void {
  const unbuilt =
    settings.DOCKER_INSECURE_REGISTRIES.length > 0 || settings.DOCKER_REGISTRY_MIRROR !== '';
  if (unbuilt) {
    throw new BuilderdError(
      'not_supported',
      `Cannot use DOCKER_INSECURE_REGISTRIES or DOCKER_REGISTRY_MIRROR: describe mirrors and plain HTTP in ${CERTS_DIR}`,
    );
  }
  const allowed = settings.DOCKER_ALLOWED_REGISTRIES;
  if (source.kind !== 'registry' || allowed.length === 0) return;
  const { registry } = parseReference(source.reference);
  if (allowed.includes(registry)) return;
  throw new BuilderdError(
    'source.denied_address',
    `Cannot pull from ${registry}: UNKEY_BUILDERD_DOCKER_ALLOWED_REGISTRIES names ${allowed.join(', ')} only`,
  );
}
