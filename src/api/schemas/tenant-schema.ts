import type { Static, TSchema } from 'typebox';
import { Type } from '../../core/schema/schema-builders.ts';
import type {
  AuditView,
  CredentialView,
  TenantView,
  TokenView,
  UsageDay,
  UsageView,
  ViolationView,
} from '../../builds/service/tenant-service.ts';
import { QUOTA_TYPES, type Quotas, TIERS } from '../../core/quotas.ts';
import { Count, presentOptionalTime, presentTime, strict, Time } from './field-schemas.ts';

const whole = (description: string, maximum: number = Number.MAX_SAFE_INTEGER) =>
  Type.Integer({ minimum: 0, maximum, description });
const hosts = (description: string) =>
  Type.Array(Type.String({ minLength: 1, maxLength: 253, pattern: '^[^\\u0000]*$' }), {
    maxItems: 200,
    description,
  });

/** Every quota, held to the type of the vocabulary. */
const QUOTA_FIELDS = {
  maxConcurrentBuilds: whole('Builds that run at once.', 10_000),
  maxQueuedBuilds: whole('Builds that may wait.', 1_000_000),
  maxDailyBuilds: whole('Builds accepted in one UTC day.', 1_000_000),
  maxBuildMinutes: whole('Longest deadline that may be asked for.', 1440),
  maxDailyComputeMinutes: whole('Minutes of build time in one UTC day.', 10_000_000),
  timeoutSeconds: whole('Deadline of a build that asks for none.', 86_400),
  maxMemoryBytes: whole('Memory of one build.'),
  maxCpuCores: Type.Number({ minimum: 0, maximum: 4096, description: 'CPUs of one build.' }),
  maxDiskBytes: whole('Disk of one build.'),
  maxStorageBytes: whole('All artifacts of the tenant.'),
  allowExternalNetwork: Type.Boolean({ description: 'May builds reach the network?' }),
  allowedRegistries: hosts('Registries that may be pulled from; `*` for all.'),
  allowedGitHosts: hosts('Git hosts; `*` for all.'),
  encryption: Type.Boolean({ description: 'Are artifacts encrypted at rest?' }),
  retentionDays: whole('Days that artifacts are kept.', 36_500),
  requestsPerMinute: Type.Integer({
    minimum: 1,
    maximum: 1_000_000,
    description: 'API requests a minute.',
  }),
  requestBurst: Type.Integer({
    minimum: 1,
    maximum: 1_000_000,
    description: 'API requests at once.',
  }),
  weight: Type.Integer({ minimum: 1, maximum: 10_000, description: 'Share of the executors.' }),
} satisfies Record<keyof Quotas, TSchema>;

export const QuotasSchema = Type.Object(QUOTA_FIELDS, { $id: 'Quotas' });

/** A change: `null` takes an override away, so that the tier's value counts again. */
export const QuotaChangeSchema = Type.Partial(
  Type.Object({
    maxConcurrentBuilds: Type.Union([QUOTA_FIELDS.maxConcurrentBuilds, Type.Null()]),
    maxQueuedBuilds: Type.Union([QUOTA_FIELDS.maxQueuedBuilds, Type.Null()]),
    maxDailyBuilds: Type.Union([QUOTA_FIELDS.maxDailyBuilds, Type.Null()]),
    maxBuildMinutes: Type.Union([QUOTA_FIELDS.maxBuildMinutes, Type.Null()]),
    maxDailyComputeMinutes: Type.Union([QUOTA_FIELDS.maxDailyComputeMinutes, Type.Null()]),
    timeoutSeconds: Type.Union([QUOTA_FIELDS.timeoutSeconds, Type.Null()]),
    maxMemoryBytes: Type.Union([QUOTA_FIELDS.maxMemoryBytes, Type.Null()]),
    maxCpuCores: Type.Union([QUOTA_FIELDS.maxCpuCores, Type.Null()]),
    maxDiskBytes: Type.Union([QUOTA_FIELDS.maxDiskBytes, Type.Null()]),
    maxStorageBytes: Type.Union([QUOTA_FIELDS.maxStorageBytes, Type.Null()]),
    allowExternalNetwork: Type.Union([QUOTA_FIELDS.allowExternalNetwork, Type.Null()]),
    allowedRegistries: Type.Union([QUOTA_FIELDS.allowedRegistries, Type.Null()]),
    allowedGitHosts: Type.Union([QUOTA_FIELDS.allowedGitHosts, Type.Null()]),
    encryption: Type.Union([QUOTA_FIELDS.encryption, Type.Null()]),
    retentionDays: Type.Union([QUOTA_FIELDS.retentionDays, Type.Null()]),
    requestsPerMinute: Type.Union([QUOTA_FIELDS.requestsPerMinute, Type.Null()]),
    requestBurst: Type.Union([QUOTA_FIELDS.requestBurst, Type.Null()]),
    weight: Type.Union([QUOTA_FIELDS.weight, Type.Null()]),
  } satisfies Record<keyof Quotas, TSchema>),
  { ...strict, description: 'Overrides; null returns to the tier.' },
);

export const OverridesSchema = Type.Partial(Type.Object(QUOTA_FIELDS), {
  ...strict,
  description: 'What differs from the tier.',
});

export const TierSchema = Type.Enum([...TIERS]);
export const TenantNameSchema = Type.String({
  maxLength: 63,
  description: 'What X-Tenant-ID says.',
});

export const TenantSchema = Type.Object(
  {
    name: Type.String(),
    id: Type.String(),
    tier: TierSchema,
    suspended: Type.Boolean(),
    overrides: Type.Partial(Type.Object(QUOTA_FIELDS)),
    quotas: Type.Object(QUOTA_FIELDS),
    createdAt: Time('When it was made.'),
    version: Type.Integer({ description: 'Also the ETag.' }),
  },
  { $id: 'Tenant' },
);
export type PresentedTenant = Static<typeof TenantSchema>;

export function presentTenant({
  overrides,
  quotas,
  createdAt,
  ...same
}: TenantView): PresentedTenant {
  return {
    ...same,
    overrides: presentQuotas(overrides),
    quotas: { ...quotas, ...presentLists(quotas) },
    createdAt: presentTime(createdAt),
  };
}

function presentQuotas(quotas: Partial<Quotas>): PresentedTenant['overrides'] {
  const { allowedRegistries: registries, allowedGitHosts: gitHosts, ...same } = quotas;
  return {
    ...same,
    ...(registries === undefined ? {} : { allowedRegistries: [...registries] }),
    ...(gitHosts === undefined ? {} : { allowedGitHosts: [...gitHosts] }),
  };
}

function presentLists({ allowedRegistries, allowedGitHosts }: Quotas): {
  readonly allowedRegistries: string[];
  readonly allowedGitHosts: string[];
} {
  return { allowedRegistries: [...allowedRegistries], allowedGitHosts: [...allowedGitHosts] };
}

export const UsageSchema = Type.Object(
  {
    activeBuilds: Count('Running now.'),
    queuedBuilds: Count('Waiting now.'),
    dailyBuildsUsed: Count('Accepted today (UTC).'),
    storageBytesUsed: Count('Of all artifacts.'),
    computeMinutesUsed: Count('Full minutes that builds ran today (UTC).'),
    buildsCompletedToday: Count('Today (UTC).'),
    buildsFailedToday: Count('Today (UTC).'),
  } satisfies Record<keyof UsageView, TSchema>,
  { $id: 'Usage' },
);

export const UsageDaySchema = Type.Object(
  {
    day: Type.String({ description: 'UTC day.', examples: ['2026-11-23'] }),
    buildsCreated: Count('Accepted.'),
    buildsCompleted: Count('Completed.'),
    buildsFailed: Count('Failed.'),
    buildsCancelled: Count('Cancelled.'),
    buildMs: Count('Time that builds ran.'),
    cpuUs: Count('CPU time of workers.'),
    pulledBytes: Count('From registries.'),
    writtenBytes: Count('Of artifacts.'),
    servedBytes: Count('Of downloads.'),
  } satisfies Record<keyof UsageDay, TSchema>,
  { $id: 'UsageDay' },
);

export const ViolationSchema = Type.Object(
  {
    quotaType: Type.Enum([...QUOTA_TYPES]),
    currentValue: Type.Number(),
    limitValue: Type.Number(),
    message: Type.String(),
    at: Time('When.'),
  },
  { $id: 'Violation' },
);

export function presentViolation({ at, ...same }: ViolationView): Static<typeof ViolationSchema> {
  return { ...same, at: presentTime(at) };
}

export const RoleSchema = Type.Enum(['operator', 'tenant', 'reader']);

export const TokenSchema = Type.Object(
  {
    id: Type.String(),
    prefix: Type.String({ description: 'First characters, to tell tokens apart.' }),
    role: RoleSchema,
    tenant: Type.Optional(Type.String()),
    name: Type.String(),
    createdAt: Time('When it was made.'),
    createdBy: Type.String({ description: 'Who made it, as in the audit log.' }),
    expiresAt: Type.Optional(Time('When it stops to work.')),
    revokedAt: Type.Optional(Time('When it was revoked.')),
    lastUsedAt: Type.Optional(Time('When it was last seen, roughly.')),
  },
  { $id: 'Token' },
);

export function presentToken(view: TokenView): Static<typeof TokenSchema> {
  const { createdAt, expiresAt, revokedAt, lastUsedAt, ...same } = view;
  return {
    ...same,
    createdAt: presentTime(createdAt),
    ...presentOptionalTime('expiresAt', expiresAt),
    ...presentOptionalTime('revokedAt', revokedAt),
    ...presentOptionalTime('lastUsedAt', lastUsedAt),
  };
}

export const CredentialSchema = Type.Object(
  {
    id: Type.String(),
    kind: Type.Enum(['registry', 'git']),
    host: Type.String(),
    createdAt: Time('When it was first stored.'),
    updatedAt: Time('When it was last replaced.'),
  },
  { $id: 'Credential', description: 'Without its secret, which cannot be read back.' },
);

export function presentCredential(view: CredentialView): Static<typeof CredentialSchema> {
  return {
    ...view,
    createdAt: presentTime(view.createdAt),
    updatedAt: presentTime(view.updatedAt),
  };
}

export const AuditSchema = Type.Object(
  {
    at: Time('When.'),
    actor: Type.String(),
    tenant: Type.Optional(Type.String()),
    action: Type.String(),
    target: Type.String(),
    oldValue: Type.Optional(Type.Unknown()),
    newValue: Type.Optional(Type.Unknown()),
    requestId: Type.String(),
    address: Type.String(),
  },
  { $id: 'AuditEntry' },
);

export function presentAudit({ at, ...same }: AuditView): Static<typeof AuditSchema> {
  return { ...same, at: presentTime(at) };
}
