import { BuilderdError } from '../../core/errors.ts';
import { parseTenantName } from '../../core/ids.ts';
import { formatBytes } from '../../core/units.ts';
import { reencryptBlobs } from '../../store/artifacts/reencrypt-blobs.ts';
import { createTenantKeys } from '../../store/artifacts/tenant-keys.ts';
import { findTenant } from '../../store/tenants/find-tenant.ts';
import type { Io } from '../io.ts';
import { openStorage } from './open-storage.ts';

export type KeysAction = 'export' | 'rotate' | 'reencrypt';

export interface KeysOptions {
  readonly config?: string;
}

/** `builderd keys …`: whoever may run it can read the master key, and with it everything. */
export async function runKeys(
  action: KeysAction,
  tenantName: string,
  options: KeysOptions,
  io: Io,
): Promise<void> {
  const { signal } = io;
  await using storage = await openStorage(
    { file: options.config, readOnly: action !== 'reencrypt', decrypts: async () => true },
    io,
  );
  const { database, store, secrets } = storage;
  const tenant = await findTenant(database, parseTenantName(tenantName));
  if (tenant === undefined || secrets === undefined) {
    throw new BuilderdError('api.not_found', `Cannot find tenant ${JSON.stringify(tenantName)}`);
  }
  const keys = createTenantKeys(database, secrets);
  if (action === 'export') {
    for (const { id, recipient, identity } of await keys.list(tenant.id, { signal })) {
      io.stdout.write(`# key ${id}\n# public key: ${recipient}\n${identity}\n`);
    }
    return;
  }
  if (action === 'rotate') {
    const { id, recipient } = await keys.rotate(tenant.id, { signal });
    io.stdout.write(`New artifacts are encrypted to ${recipient} (key ${id})\n`);
    io.stdout.write(`next: builderd keys reencrypt ${tenant.name}\n`);
    return;
  }
  const done = await reencryptBlobs(database, store, { tenantId: tenant.id, keys, signal });
  io.stdout.write(`Stored ${done.blobs} artifacts again, ${formatBytes(done.bytes)}\n`);
  if (done.skipped > 0) io.stdout.write(`Left ${done.skipped} damaged ones as they are\n`);
}
