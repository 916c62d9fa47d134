import { BuilderdError } from '../../../core/errors.ts';
import { findBuild } from '../../../store/builds/find-build.ts';
import { findTenantById } from '../../../store/tenants/find-tenant.ts';
import { recordViolation } from '../../../store/violations/record-violation.ts';
import type { BuildSpec } from '../../build-spec.ts';
import { parseBuildSpec } from '../../parse-build-spec.ts';
import type { BuildService } from '../build-service.ts';
import type { Caller, TenantRef } from '../caller.ts';
import type { BuildView } from '../views.ts';
import { type Admission, admitBuild, type Wish } from './admit-build.ts';
import { type Refusal, refusalError } from './admission.ts';
import { viewBuild } from './build-view.ts';
import { assertStorable, checkSpec } from './check-spec.ts';
import { assertMayChange } from './may-change.ts';
import { requestHash } from './request-hash.ts';
import type { BuildServiceOptions } from './service-options.ts';

type CreateCall = Parameters<BuildService['create']>[3];

/** Printable ASCII: a header's value, and a text in both databases. */
const IDEMPOTENCY_KEY = /^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/;
const TRACE_PARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;
/** Bytes of what is kept for each build, and answered by GetBuild. */
const MAX_WIRE_CONFIG = 64 * 1024;

/** Checks, admits in one transaction, then tells: the executors of the build, or why there is none. */
export async function createBuild(
  options: BuildServiceOptions,
  caller: Caller,
  tenant: TenantRef,
  spec: BuildSpec,
  call: CreateCall,
): Promise<{ readonly build: BuildView; readonly created: boolean }> {
  assertMayChange(caller, tenant);
  const { database } = options;
  const wish = parseWish(options, caller, spec, call);
  const admission = await database.transaction((tx) => admitBuild(tx, tenant, wish, options), call);
  if (admission.kind === 'refused') {
    await noteRefusal(options, tenant, admission.refusal, call);
    throw refusalError(admission.refusal);
  }
  if (admission.kind === 'created') {
    database.ring('queue');
    database.ring('events');
  }
  return await answer(options, tenant, admission);
}

function parseWish(
  { secrets }: BuildServiceOptions,
  caller: Caller,
  raw: BuildSpec,
  { idempotencyKey, wireConfig, traceParent }: CreateCall,
): Wish {
  const spec = parseBuildSpec(raw);
  const facts = checkSpec(spec);
  if (idempotencyKey !== undefined && !IDEMPOTENCY_KEY.test(idempotencyKey)) {
    throw new BuilderdError(
      'api.invalid',
      'Cannot use the idempotency key: want 1 to 255 printable ASCII characters',
    );
  }
  assertStorable(wireConfig, 'config');
  if (Buffer.byteLength(wireConfig ?? '') > MAX_WIRE_CONFIG) {
    throw new BuilderdError('api.too_large', `Cannot keep config: over ${MAX_WIRE_CONFIG} bytes`);
  }
  const key = { id: secrets.keyId, bytes: secrets.deriveKey('hashes of build requests') };
  return {
    spec,
    facts,
    createdBy: caller.actor,
    wireConfig,
    // It only helps tracing: a bad one is left out, as its specification wants.
    traceParent: TRACE_PARENT.test(traceParent ?? '') ? traceParent : undefined,
    idempotency:
      idempotencyKey === undefined
        ? undefined
        : { key: idempotencyKey, requestHash: requestHash(key, spec, wireConfig) },
  };
}

/** In a transaction of its own: the one that refused has nothing to keep. */
async function noteRefusal(
  { database, onViolation }: BuildServiceOptions,
  tenant: TenantRef,
  { quotaType, current, limit, message }: Refusal,
  call: CreateCall,
): Promise<void> {
  onViolation?.(tenant.name, quotaType);
  const violation = { tenantId: tenant.id, quotaType, current, limit, message };
  const { isNew } = await database.transaction(async (tx) => {
    // Refusals come many at once; one at a time they see each other's row.
    await findTenantById(tx, tenant.id, { lock: true });
    return await recordViolation(tx, violation);
  }, call);
  if (isNew) database.ring('events');
}

async function answer(
  { database }: BuildServiceOptions,
  tenant: TenantRef,
  { kind, id }: Exclude<Admission, { kind: 'refused' }>,
): Promise<{ readonly build: BuildView; readonly created: boolean }> {
  const build = await findBuild(database, tenant.id, id);
  if (build === undefined) {
    throw new BuilderdError('api.conflict', 'Cannot show the build: it was deleted since');
  }
  return { build: await viewBuild(database, tenant, build), created: kind === 'created' };
}
