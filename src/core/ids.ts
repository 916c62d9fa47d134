import { randomUUIDv7 } from 'node:crypto';
import { BuilderdError } from './errors.ts';

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

/** Time-ordered (UUIDv7), not guessable: 74 random bits. */
export type BuildId = Branded<'BuildId'>;
/** The internal id of a tenant: what directories, cgroups and containerd names are made of. */
export type TenantId = Branded<'TenantId'>;
/** What people and `X-Tenant-ID` call a tenant. Data only: never part of a path or a label. */
export type TenantName = Branded<'TenantName'>;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const TENANT_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;

/** A fresh UUIDv7, as lower-case text. */
export function newId(): string {
  return randomUUIDv7();
}

/** For ids whose kind has no brand of its own: tokens, webhooks, credentials. */
export function isUuid(raw: string): boolean {
  return UUID.test(raw);
}

export function newBuildId(): BuildId {
  return parseBuildId(newId());
}

/** Throws `api.not_found`: an id that cannot exist is answered like one that does not. */
export function parseBuildId(raw: string): BuildId {
  if (isBuildId(raw)) return raw;
  throw new BuilderdError('api.not_found', 'Cannot find the build: there is none with this id');
}

export function parseTenantId(raw: string): TenantId {
  if (isTenantId(raw)) return raw;
  throw new BuilderdError('internal', 'Cannot read a tenant id from the database: it is no UUID');
}

/** 1 to 63 letters, digits, dots, dashes and underscores, starting and ending with one of the first two. */
export function parseTenantName(raw: string): TenantName {
  if (isTenantName(raw)) return raw;
  throw new BuilderdError(
    'api.invalid',
    `Cannot use ${JSON.stringify(raw.slice(0, 80))} as a tenant: want 1 to 63 letters, digits, dots, dashes, underscores`,
  );
}

export const isBuildId = (raw: string): raw is BuildId => UUID.test(raw);
export const isTenantId = (raw: string): raw is TenantId => UUID.test(raw);
const isTenantName = (raw: string): raw is TenantName => TENANT_NAME.test(raw);
