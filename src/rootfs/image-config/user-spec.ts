import { badConfig, shown } from './json-fields.ts';

/** A user or group as the image config names it. A number is never also tried as a name. */
export type AccountName =
  | { readonly kind: 'id'; readonly id: number }
  | { readonly kind: 'name'; readonly name: string };

export interface UserSpec {
  readonly user: AccountName;
  /** Absent: the group that /etc/passwd names. */
  readonly group?: AccountName;
}

/** What runc and containerd accept; above it ids wrap to others (CVE-2024-40635). */
const MAX_ID = 2 ** 31 - 1;
const MAX_NAME_CHARS = 256;

/**
 * The six forms of the OCI image spec: user, uid, user:group, uid:gid, uid:group, user:gid.
 * Empty means root. Throws `image.bad_config` for everything else (security.md A23–A25).
 */
export function parseUserSpec(text: string): UserSpec {
  if (text === '') return { user: { kind: 'id', id: 0 } };
  const [user = '', group, extra] = text.split(':');
  if (extra !== undefined) throw badConfig(`User ${shown(text)} has more than one colon`);
  const spec: UserSpec = { user: parseAccount(user, text) };
  return group === undefined ? spec : { ...spec, group: parseAccount(group, text) };
}

function parseAccount(part: string, text: string): AccountName {
  if (part === '') throw badConfig(`User ${shown(text)} has an empty part`);
  if (/^[+-]?[0-9]+$/.test(part)) {
    const id = /^[0-9]/.test(part) ? Number(part) : Number.NaN;
    if (id >= 0 && id <= MAX_ID) return { kind: 'id', id };
    throw badConfig(`User ${shown(text)} has an id outside 0 … ${MAX_ID}`);
  }
  if (part.length > MAX_NAME_CHARS || /[\s\p{C}]/u.test(part) || part.startsWith('-')) {
    throw badConfig(`User ${shown(text)} is not a user or group name`);
  }
  return { kind: 'name', name: part };
}
