import { isBuildId, isTenantId, type TenantId } from '../../core/ids.ts';
import { detachedSignal } from '../../core/scope.ts';
import { ContainerdClient } from '../../runtime/containerd-client.ts';
import { type Lease, PURPOSE_LABEL } from '../../runtime/leases.ts';
import { createImageRepository } from '../../runtime/pull/image-repository.ts';
import type { RegistryDeps } from '../../runtime/registry/registry-client.ts';
import { openStoreSession } from '../../runtime/store-session.ts';
import { abortable } from '../../core/abortable.ts';
import type { AttemptImages, AttemptKey, AttemptLease } from './attempt-images.ts';

export interface ContainerdImagesOptions {
  readonly address: string;
  /** Namespaces are `<prefix>-<tenant id>`. */
  readonly namespacePrefix: string;
  /** All but the credentials, which are each attempt's own. */
  readonly registry: Omit<RegistryDeps, 'credentials'>;
  readonly maxImageBytes: number;
  /** For blobs when containerd's own files cannot be opened. */
  readonly scratchDir: string;
}

const CONNECT_LIMIT_MS = 10_000;
const PING_LIMIT_MS = 5000;

export interface ContainerdImages extends AttemptImages, Disposable {}

/** Connects when first needed and whenever the daemon was away: its absence is no reason not to start. */
export function createContainerdImages(options: ContainerdImagesOptions): ContainerdImages {
  let connecting: Promise<ContainerdClient> | undefined;
  const connect = async (signal: AbortSignal): Promise<ContainerdClient> => {
    // Not with the caller's signal: others may wait for the same connection.
    connecting ??= ContainerdClient.connect({
      address: options.address,
      signal: detachedSignal(CONNECT_LIMIT_MS),
    }).catch((reason: unknown) => {
      connecting = undefined;
      throw reason;
    });
    return await abortable(connecting, signal);
  };
  const namespaceOf = ({ tenantId }: Pick<AttemptKey, 'tenantId'>): string =>
    `${options.namespacePrefix}-${tenantId}`;

  const tenantNamespaces = async (
    client: ContainerdClient,
    signal: AbortSignal,
  ): Promise<{ readonly name: string; readonly tenantId: TenantId }[]> => {
    const all = await client.namespaces.list({ signal });
    return all.flatMap(({ name }) => {
      const tenantId = name.slice(options.namespacePrefix.length + 1);
      return isTenantId(tenantId) && name === namespaceOf({ tenantId }) ? [{ name, tenantId }] : [];
    });
  };

  return {
    forAttempt(attempt) {
      const onCleanupFault = attempt.onCleanupFault;
      return createImageRepository({
        openSession: async ({ signal }) =>
          openStoreSession(await connect(signal), {
            namespace: namespaceOf(attempt),
            leaseTtlMs: attempt.leaseTtlMs,
            purpose: purposeOf(attempt),
            scratchDir: options.scratchDir,
            signal,
            onCleanupFault: (fault) => onCleanupFault('end the store session', fault),
          }),
        registry: { ...options.registry, credentials: attempt.credentials },
        maxImageBytes: options.maxImageBytes,
        onCleanupFault,
      });
    },
    async ping({ signal }) {
      const client = await connect(signal);
      await client.probe.version({ signal, retry: 'never', timeoutMs: PING_LIMIT_MS });
    },
    async leases({ signal }) {
      const client = await connect(signal);
      const found: AttemptLease[] = [];
      for (const { name, tenantId } of await tenantNamespaces(client, signal)) {
        const leases = await client.leases.list([`labels.${JSON.stringify(PURPOSE_LABEL)}`], {
          namespace: name,
          signal,
        });
        for (const lease of leases) {
          const attempt = parsePurpose(lease);
          if (attempt === undefined) continue;
          found.push({ ...attempt, tenantId, namespace: name, id: lease.id });
        }
      }
      return found;
    },
    async release({ namespace, id }, { signal }) {
      const client = await connect(signal);
      await client.leases.delete(id, { sync: false }, { namespace, signal });
    },
    async forgetUnused({ unusedMs, signal }) {
      const client = await connect(signal);
      const oldest = Date.now() - unusedMs;
      let forgotten = 0;
      for (const { name: namespace } of await tenantNamespaces(client, signal)) {
        for (const { name, usedAt } of await client.images.listUse({ namespace, signal })) {
          if (usedAt === undefined || usedAt.getTime() >= oldest) continue;
          // What a build is using it has on its own lease.
          await client.images.delete(name, { sync: false }, { namespace, signal });
          forgotten += 1;
        }
      }
      return forgotten;
    },
    [Symbol.dispose]() {
      connecting?.then(
        (client) => client[Symbol.dispose](),
        // It never came up: there is nothing to close.
        () => undefined,
      );
      connecting = undefined;
    },
  };
}

function purposeOf({ buildId, attempt }: AttemptKey): string {
  return `attempt:${buildId}:${attempt}`;
}

function parsePurpose({ labels }: Lease): Omit<AttemptKey, 'tenantId'> | undefined {
  const [kind, buildId = '', attempt = ''] = (labels.get(PURPOSE_LABEL) ?? '').split(':');
  if (kind !== 'attempt' || !isBuildId(buildId) || !/^[1-9]\d{0,8}$/.test(attempt)) {
    return undefined;
  }
  return { buildId, attempt: Number(attempt) };
}
