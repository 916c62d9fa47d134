import { BuilderdError } from '../../../core/errors.ts';
import { fullMinutes } from '../../../core/units.ts';
import { readAudit } from '../../../store/audit/read-audit.ts';
import { findTenantById } from '../../../store/tenants/find-tenant.ts';
import {
  countBuilds,
  totalBuildMs,
  usageDays,
  usageToday,
} from '../../../store/usage/read-usage.ts';
import { listViolations } from '../../../store/violations/list-violations.ts';
import type { TenantService } from '../tenant-service.ts';
import { requireOperator, requireTenant } from './access.ts';
import type { TenantServiceOptions } from './tenant-deps.ts';

type Part = Pick<TenantService, 'usage' | 'usageDays' | 'violations' | 'audit'>;

const MAX_DAYS = 1000;
const MAX_PAGE = 500;
const DAY = /^\d{4}-\d{2}-\d{2}$/;

export function readTenants({ database }: TenantServiceOptions): Part {
  return {
    async usage(tenant) {
      const found = await findTenantById(database, tenant.id);
      if (found === undefined) {
        throw new BuilderdError('api.not_found', `Cannot find tenant ${tenant.name}`);
      }
      const { active, queued } = await countBuilds(database, tenant.id);
      const today = await usageToday(database, tenant.id);
      return {
        activeBuilds: active,
        queuedBuilds: queued,
        dailyBuildsUsed: today.buildsCreated,
        storageBytesUsed: found.storageBytes,
        computeMinutesUsed: fullMinutes(await totalBuildMs(database, tenant.id)),
        buildsCompletedToday: today.buildsCompleted,
        buildsFailedToday: today.buildsFailed,
      };
    },

    async usageDays(tenant, { from, to }) {
      if (!DAY.test(from) || !DAY.test(to)) {
        throw new BuilderdError('api.invalid', 'Cannot read usage: want days such as 2026-11-23');
      }
      return usageDays(database, tenant.id, { from, to, limit: MAX_DAYS });
    },

    violations: (tenant, { limit }) =>
      listViolations(database, tenant.id, { limit: pageOf(limit) }),

    async audit(caller, { limit, before, tenant }) {
      if (tenant === undefined) requireOperator(caller, 'read the audit log of all tenants');
      else requireTenant(caller, tenant, 'read the audit log');
      return readAudit(database, {
        limit: pageOf(limit),
        ...(before === undefined ? {} : { before }),
        ...(tenant === undefined ? {} : { tenantId: tenant.id }),
      });
    },
  };
}

function pageOf(limit: number): number {
  if (Number.isSafeInteger(limit) && limit >= 1 && limit <= MAX_PAGE) return limit;
  throw new BuilderdError('api.invalid', `Cannot give ${limit} rows: want 1 to ${MAX_PAGE}`);
}
