import { BuilderdError, isBuilderdError } from '../../../core/errors.ts';
import { type Quotas, type Tier, TIER_QUOTAS } from '../../../core/quotas.ts';
import { applyQuotaChange, parseQuotaChange } from '../../../store/tenants/parse-quota-change.ts';

/**
 * The overrides that the operator's settings give a new tenant of the default tier. A longer
 * default deadline brings the longest one with it. Throws `config.invalid`: what is written into a
 * row must be readable ever after.
 */
export function newTenantOverrides({
  tier,
  overrides,
}: {
  readonly tier: Tier;
  readonly overrides: Partial<Quotas>;
}): Partial<Quotas> {
  const given = parsed(overrides);
  const quotas = { ...TIER_QUOTAS[tier], ...given };
  const minutes = Math.ceil(quotas.timeoutSeconds / 60);
  if (minutes <= quotas.maxBuildMinutes) return given;
  if (given.maxBuildMinutes === undefined) return { ...given, maxBuildMinutes: minutes };
  throw new BuilderdError(
    'config.invalid',
    `Cannot use TENANT_DEFAULT_TIMEOUT_SECONDS ${quotas.timeoutSeconds}: TENANT_DEFAULT_MAX_BUILD_TIME_MINUTES is ${given.maxBuildMinutes}`,
  );
}

function parsed(overrides: Partial<Quotas>): Partial<Quotas> {
  try {
    return applyQuotaChange({}, parseQuotaChange(overrides));
  } catch (reason) {
    if (!isBuilderdError(reason, 'api.invalid')) throw reason;
    throw new BuilderdError('config.invalid', `${reason.message}, from TENANT_DEFAULT_ settings`, {
      cause: reason,
    });
  }
}
