import { BuilderdError } from '../../../core/errors.ts';
import { parseTenantName } from '../../../core/ids.ts';
import { type Tier, TIERS } from '../../../core/quotas.ts';
import { writeAudit } from '../../../store/audit/write-audit.ts';
import type { Db } from '../../../store/database.ts';
import { appendEvent } from '../../../store/events/append-event.ts';
import { effectiveQuotas } from '../../../store/tenants/effective-quotas.ts';
import { ensureTenant } from '../../../store/tenants/ensure-tenant.ts';
import { findTenant, findTenantById } from '../../../store/tenants/find-tenant.ts';
import {
  applyQuotaChange,
  parseQuotaChange,
  type QuotaChange,
} from '../../../store/tenants/parse-quota-change.ts';
import type { TenantRecord } from '../../../store/tenants/tenant-record.ts';
import { listTenants, updateTenant } from '../../../store/tenants/tenant-rows.ts';
import type { Caller, TenantRef } from '../caller.ts';
import type { TenantService, TenantView } from '../tenant-service.ts';
import { mayActFor, requireOperator, requireWriter } from './access.ts';
import { checkCapacity } from './check-capacity.ts';
import { newTenantOverrides } from './new-tenant-overrides.ts';
import type { TenantServiceOptions } from './tenant-deps.ts';

type Part = Pick<TenantService, 'resolve' | 'list' | 'create' | 'get' | 'update'>;

/** Rows that one list gives at most: an operator has hundreds of tenants, not millions. */
const MAX_LISTED = 10_000;

export function manageTenants(options: TenantServiceOptions): Part {
  const { database, newTenants, hostCapacity } = options;
  return {
    async resolve(caller, name, { signal }) {
      const wanted = name ?? onlyTenantOf(caller);
      // Before the look-up: who may not act for a tenant does not learn whether there is one.
      if (!mayActFor(caller, wanted)) {
        throw new BuilderdError(
          'api.forbidden',
          `Cannot act for tenant ${wanted}: the token is for another one`,
        );
      }
      const known = await findTenant(database, wanted);
      if (known !== undefined) return { id: known.id, name: known.name };
      if (!options.createMissing || !mayMakeItself(caller, wanted)) throw noTenant(wanted);
      const overrides = newTenantOverrides(newTenants);
      const { tenant } = await database.transaction(
        (tx) => makeTenant(tx, caller, { name: wanted, tier: newTenants.tier, overrides }),
        { signal },
      );
      return { id: tenant.id, name: tenant.name };
    },

    async list(caller) {
      const names = caller.tenants === 'all' ? undefined : [...caller.tenants];
      if (names === undefined) requireOperator(caller, 'list all tenants');
      const tenants = await listTenants(database, {
        ...(names === undefined ? {} : { names }),
        limit: MAX_LISTED,
      });
      return tenants.map(viewOf);
    },

    async create(caller, input, { signal }) {
      const name = parseTenantName(input.name);
      requireOperator(caller, 'create a tenant', name);
      const tier = input.tier === undefined ? newTenants.tier : parseTier(input.tier);
      const change = parseQuotaChange(input.overrides ?? {});
      // The defaults belong to the default tier: another one comes with its own values.
      const defaults = tier === newTenants.tier ? newTenantOverrides(newTenants) : {};
      const overrides = applyQuotaChange(defaults, change);
      checkCapacity(effectiveQuotas({ tier, overrides }), change, hostCapacity);
      const { tenant, created } = await database.transaction(
        (tx) => makeTenant(tx, caller, { name, tier, overrides }),
        { signal },
      );
      if (!created) {
        throw new BuilderdError('api.conflict', `Cannot create tenant ${name}: it exists already`);
      }
      return viewOf(tenant);
    },

    async get(tenant) {
      const found = await findTenantById(database, tenant.id);
      if (found === undefined) throw noTenant(tenant.name);
      return viewOf(found);
    },

    async update(caller, tenant, change, { signal, ifVersion, dryRun = false }) {
      // Also for the own tenant: a tenant that could raise its tier would have none.
      requireOperator(caller, 'change a tenant', tenant.name);
      const wish = {
        ...(change.tier === undefined ? {} : { tier: parseTier(change.tier) }),
        ...(change.suspended === undefined ? {} : { suspended: change.suspended }),
        overrides: parseQuotaChange(change.overrides ?? {}),
      };
      const updated = await database.transaction(
        (tx) => changeTenant(tx, { caller, tenant, wish, ifVersion, dryRun, options }),
        { signal },
      );
      if (dryRun) return viewOf(updated);
      database.ring('control');
      database.ring('queue');
      database.ring('events');
      return viewOf(updated);
    },
  };
}

/**
 * Only a name that the credential itself holds makes a tenant. One that an operator may use because
 * he may use all is a name that somebody typed; in development mode there is no other.
 */
function mayMakeItself(caller: Caller, name: TenantRef['name']): boolean {
  if (caller.actor === 'development') return true;
  return caller.role !== 'operator' && caller.tenants !== 'all' && caller.tenants.has(name);
}

async function makeTenant(
  tx: Db,
  caller: Caller,
  wish: Parameters<typeof ensureTenant>[1],
): Promise<{ readonly tenant: TenantRecord; readonly created: boolean }> {
  requireWriter(caller, 'create a tenant');
  const made = await ensureTenant(tx, wish);
  if (made.created) {
    await writeAudit(tx, caller, {
      tenantId: made.tenant.id,
      action: 'tenant.create',
      target: made.tenant.name,
      newValue: auditedOf(made.tenant),
    });
  }
  return made;
}

interface TenantWish {
  readonly tier?: Tier;
  readonly suspended?: boolean;
  readonly overrides: QuotaChange;
}

async function changeTenant(
  tx: Db,
  {
    caller,
    tenant,
    wish,
    ifVersion,
    dryRun,
    options,
  }: {
    readonly caller: Caller;
    readonly tenant: TenantRef;
    readonly wish: TenantWish;
    readonly ifVersion: number | undefined;
    readonly dryRun: boolean;
    readonly options: TenantServiceOptions;
  },
): Promise<TenantRecord> {
  const before = await findTenantById(tx, tenant.id, { lock: true });
  if (before === undefined) throw noTenant(tenant.name);
  if (ifVersion !== undefined && ifVersion !== before.version) {
    throw new BuilderdError(
      'api.conflict',
      `Cannot change tenant ${tenant.name}: it is at version ${before.version}, not ${ifVersion}`,
    );
  }
  const tier = wish.tier ?? before.tier;
  const overrides = applyQuotaChange(before.overrides, wish.overrides);
  checkCapacity(effectiveQuotas({ tier, overrides }), wish.overrides, options.hostCapacity);
  const next = { tier, overrides, suspended: wish.suspended ?? before.suspended };
  if (JSON.stringify(auditedOf(before)) === JSON.stringify(auditedOf(next))) return before;
  if (dryRun) return { ...before, ...next, quotas: effectiveQuotas(next) };
  const after = await updateTenant(tx, before.id, next);
  await writeAudit(tx, caller, {
    tenantId: after.id,
    action: 'tenant.update',
    target: after.name,
    oldValue: auditedOf(before),
    newValue: auditedOf(after),
  });
  await appendEvent(tx, {
    tenantId: after.id,
    type: 'tenant.updated',
    data: { tier: after.tier, suspended: after.suspended, version: after.version },
  });
  return after;
}

function auditedOf({
  tier,
  suspended,
  overrides,
}: Pick<TenantRecord, 'tier' | 'suspended' | 'overrides'>): object {
  // In one order, so that equal means unchanged.
  return { tier, suspended, overrides: applyQuotaChange({}, overrides) };
}

function onlyTenantOf(caller: Caller): TenantRef['name'] {
  const [only, ...others] = caller.tenants === 'all' ? [] : caller.tenants;
  if (only !== undefined && others.length === 0) return only;
  throw new BuilderdError('api.invalid', 'Cannot tell the tenant: name it with X-Tenant-ID');
}

function parseTier(raw: string): Tier {
  const tier = TIERS.find((candidate) => candidate === raw);
  if (tier !== undefined) return tier;
  throw new BuilderdError(
    'api.invalid',
    `Cannot use ${JSON.stringify(raw.slice(0, 40))} as a tier: want ${TIERS.join(', ')}`,
  );
}

function noTenant(name: string): BuilderdError {
  return new BuilderdError('api.not_found', `Cannot find tenant ${name}`);
}

function viewOf(tenant: TenantRecord): TenantView {
  return {
    name: tenant.name,
    id: tenant.id,
    tier: tenant.tier,
    suspended: tenant.suspended,
    overrides: tenant.overrides,
    quotas: tenant.quotas,
    createdAt: tenant.createdAt,
    version: tenant.version,
  };
}
