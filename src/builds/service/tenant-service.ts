import type { QuotaType, Quotas, Tier } from '../../core/quotas.ts';
import type { TenantName } from '../../core/ids.ts';
import type { Call } from './build-service.ts';
import type { Caller, TenantRef } from './caller.ts';

export interface TenantView {
  readonly name: TenantName;
  readonly id: string;
  readonly tier: Tier;
  readonly suspended: boolean;
  readonly overrides: Partial<Quotas>;
  /** Tier and overrides together. */
  readonly quotas: Quotas;
  readonly createdAt: number;
  readonly version: number;
}

/** TenantUsageStats of the wire contract. */
export interface UsageView {
  readonly activeBuilds: number;
  readonly queuedBuilds: number;
  readonly dailyBuildsUsed: number;
  readonly storageBytesUsed: number;
  readonly computeMinutesUsed: number;
  readonly buildsCompletedToday: number;
  readonly buildsFailedToday: number;
}

export interface ViolationView {
  readonly quotaType: QuotaType;
  readonly currentValue: number;
  readonly limitValue: number;
  readonly message: string;
  readonly at: number;
}

export interface UsageDay {
  readonly day: string;
  readonly buildsCreated: number;
  readonly buildsCompleted: number;
  readonly buildsFailed: number;
  readonly buildsCancelled: number;
  readonly buildMs: number;
  readonly cpuUs: number;
  readonly pulledBytes: number;
  readonly writtenBytes: number;
  readonly servedBytes: number;
}

export interface TokenView {
  readonly id: string;
  readonly prefix: string;
  readonly role: 'operator' | 'tenant' | 'reader';
  readonly tenant?: TenantName;
  readonly name: string;
  readonly createdAt: number;
  /** The actor that made it. */
  readonly createdBy: string;
  readonly expiresAt?: number;
  readonly revokedAt?: number;
  readonly lastUsedAt?: number;
}

export interface CredentialView {
  readonly id: string;
  readonly kind: 'registry' | 'git';
  readonly host: string;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export interface CredentialInput {
  readonly kind: 'registry' | 'git';
  /** Exact host, with its port if it has one. */
  readonly host: string;
  readonly username?: string;
  readonly password?: string;
  readonly token?: string;
  readonly sshKey?: string;
}

export interface AuditView {
  readonly at: number;
  readonly actor: string;
  readonly tenant?: TenantName;
  readonly action: string;
  readonly target: string;
  readonly oldValue?: unknown;
  readonly newValue?: unknown;
  readonly requestId: string;
  readonly address: string;
}

/** Tenants, quotas, tokens, credentials, usage, audit. Methods that change things write the audit log. */
export interface TenantService {
  /** The tenant that the caller acts for; `api.forbidden` for one that it may not, `api.not_found` if there is none. */
  resolve(caller: Caller, name: TenantName | undefined, call: Call): Promise<TenantRef>;
  list(caller: Caller, call: Call): Promise<readonly TenantView[]>;
  create(
    caller: Caller,
    input: {
      readonly name: TenantName;
      readonly tier?: Tier;
      readonly overrides?: Partial<Quotas>;
    },
    call: Call,
  ): Promise<TenantView>;
  get(tenant: TenantRef, call: Call): Promise<TenantView>;
  /**
   * `ifVersion` from If-Match: `api.conflict` when it changed meanwhile. `null` in overrides removes
   * one. `dryRun` checks everything and answers what would be, without a write.
   */
  update(
    caller: Caller,
    tenant: TenantRef,
    change: {
      readonly tier?: Tier;
      readonly suspended?: boolean;
      readonly overrides?: { readonly [K in keyof Quotas]?: Quotas[K] | null };
    },
    options: Call & { readonly ifVersion?: number; readonly dryRun?: boolean },
  ): Promise<TenantView>;
  usage(tenant: TenantRef, call: Call): Promise<UsageView>;
  usageDays(
    tenant: TenantRef,
    period: { readonly from: string; readonly to: string },
    call: Call,
  ): Promise<readonly UsageDay[]>;
  violations(
    tenant: TenantRef,
    options: Call & { readonly limit: number },
  ): Promise<readonly ViolationView[]>;

  createToken(
    caller: Caller,
    input: {
      readonly role: 'operator' | 'tenant' | 'reader';
      readonly tenant?: TenantRef;
      readonly name: string;
      readonly ttlSeconds?: number;
    },
    call: Call,
  ): Promise<{ readonly token: TokenView /** Shown once. */; readonly secret: string }>;
  /** Those that work first. Without a tenant: all, for operators. `limit`: 1 to 500, or 500. */
  listTokens(
    caller: Caller,
    tenant: TenantRef | undefined,
    options: Call & { readonly limit?: number; readonly cursor?: string },
  ): Promise<{ readonly tokens: readonly TokenView[]; readonly nextCursor?: string }>;
  /**
   * With `cascade` also the tokens that it made, and theirs; without `cascade` those too, but of an
   * operator's token only the operators'. The token itself is revoked before the others, for good;
   * a repeat goes on with those that are left.
   */
  revokeToken(
    caller: Caller,
    tenant: TenantRef | undefined,
    id: string,
    options: Call & { readonly cascade?: boolean },
  ): Promise<void>;
  /** The caller that a presented token stands for, or undefined: unknown, revoked or expired. */
  authenticate(
    secret: string,
    call: Call,
  ): Promise<Pick<Caller, 'actor' | 'role' | 'tenants' | 'expiresAt'> | undefined>;

  putCredential(
    caller: Caller,
    tenant: TenantRef,
    input: CredentialInput,
    call: Call,
  ): Promise<CredentialView>;
  listCredentials(tenant: TenantRef, call: Call): Promise<readonly CredentialView[]>;
  deleteCredential(caller: Caller, tenant: TenantRef, id: string, call: Call): Promise<void>;
  audit(
    caller: Caller,
    options: Call & {
      readonly limit: number;
      readonly before?: number;
      readonly tenant?: TenantRef;
    },
  ): Promise<readonly AuditView[]>;
}
