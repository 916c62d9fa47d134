import { BuilderdError } from '../../../core/errors.ts';
import { type BuildId, newBuildId } from '../../../core/ids.ts';
import { countAdmitted } from '../../../store/builds/count-admitted.ts';
import {
  findIdempotencyKey,
  insertIdempotencyKey,
} from '../../../store/builds/idempotency-keys.ts';
import { insertBuild } from '../../../store/builds/insert-build.ts';
import type { Db } from '../../../store/database.ts';
import { appendEvent } from '../../../store/events/append-event.ts';
import type { SealedSecrets } from '../../../store/secrets/sealed-secrets.ts';
import { findTenantById } from '../../../store/tenants/find-tenant.ts';
import type { TenantRecord } from '../../../store/tenants/tenant-record.ts';
import { addUsage } from '../../../store/usage/add-usage.ts';
import { separateSecrets } from '../../build-secrets.ts';
import type { BuildSpec } from '../../build-spec.ts';
import type { TenantRef } from '../caller.ts';
import {
  type AdmissionLimits,
  type Grant,
  grantFor,
  isRefusal,
  type Refusal,
  refusalFor,
} from './admission.ts';
import type { SpecFacts } from './check-spec.ts';

export interface Wish {
  readonly spec: BuildSpec;
  readonly facts: SpecFacts;
  readonly createdBy: string;
  readonly wireConfig: string | undefined;
  readonly traceParent: string | undefined;
  readonly idempotency: { readonly key: string; readonly requestHash: string } | undefined;
}

export type Admission =
  | { readonly kind: 'created' | 'repeated'; readonly id: BuildId }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/**
 * The whole of a create, in one transaction that holds the tenant's row: what is counted stays true
 * until the row is in, however many creates run at once. A refusal has written nothing.
 */
export async function admitBuild(
  tx: Db,
  { id: tenantId }: TenantRef,
  wish: Wish,
  { secrets, limits }: { readonly secrets: SealedSecrets; readonly limits: AdmissionLimits },
): Promise<Admission> {
  const tenant = await findTenantById(tx, tenantId, { lock: true });
  if (tenant === undefined) {
    throw new BuilderdError('api.not_found', 'Cannot create the build: its tenant is gone');
  }
  const known = await repeatOf(tx, tenant, wish);
  if (known !== undefined) return { kind: 'repeated', id: known };
  if (tenant.suspended) {
    throw new BuilderdError('api.forbidden', 'Cannot create the build: the tenant is suspended');
  }
  const grant = grantFor(wish.spec, wish.facts, tenant.quotas, limits);
  if (isRefusal(grant)) return { kind: 'refused', refusal: grant };
  const admitted = await countAdmitted(tx, tenant.id);
  const refusal = refusalFor(tenant.quotas, admitted, tenant.storageBytes);
  if (refusal !== undefined) return { kind: 'refused', refusal };
  return { kind: 'created', id: await insert(tx, tenant, wish, grant, secrets) };
}

/** The build that an earlier request with the same key made. */
async function repeatOf(
  tx: Db,
  { id }: TenantRecord,
  { idempotency }: Wish,
): Promise<BuildId | undefined> {
  if (idempotency === undefined) return undefined;
  const known = await findIdempotencyKey(tx, id, idempotency.key);
  if (known === undefined) return undefined;
  if (!sameRequest(known.requestHash, idempotency.requestHash)) {
    throw new BuilderdError(
      'api.key_reused',
      'Cannot create the build: its idempotency key was used for another request',
    );
  }
  return known.buildId;
}

/** Hashes are keyed: under another key they cannot be compared, and the key alone decides. */
function sameRequest(known: string, asked: string): boolean {
  const [knownKey] = known.split(':');
  const [askedKey] = asked.split(':');
  return knownKey !== askedKey || known === asked;
}

async function insert(
  tx: Db,
  tenant: TenantRecord,
  wish: Wish,
  grant: Grant,
  secrets: SealedSecrets,
): Promise<BuildId> {
  const id = newBuildId();
  const parts = separateSecrets(wish.spec);
  const place = { table: 'build_secrets', tenantId: tenant.id, rowId: id } as const;
  await insertBuild(tx, {
    id,
    tenantId: tenant.id,
    name: wish.spec.name ?? '',
    labels: wish.spec.labels ?? {},
    priority: wish.spec.priority ?? 0,
    requestJson: JSON.stringify(parts.spec),
    wireConfig: wish.wireConfig,
    traceParent: wish.traceParent,
    createdBy: wish.createdBy,
    ...grant,
    sealedSecrets:
      parts.secrets === undefined ? undefined : secrets.seal(place, JSON.stringify(parts.secrets)),
  });
  if (wish.idempotency !== undefined) {
    const { key, requestHash } = wish.idempotency;
    await insertIdempotencyKey(tx, tenant.id, key, { buildId: id, requestHash });
  }
  await addUsage(tx, tenant.id, { buildsCreated: 1 });
  await appendEvent(tx, {
    tenantId: tenant.id,
    buildId: id,
    type: 'build.created',
    data: { state: 'pending', name: wish.spec.name ?? '' },
  });
  return id;
}
