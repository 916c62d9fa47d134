import { bytesOf, escapeBytes, type ByteString } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Accounts, PasswdEntry } from './accounts.ts';
import type { AccountName, UserSpec } from './user-spec.ts';

export interface ResolvedUser {
  readonly uid: number;
  readonly gid: number;
  /** Ascending, the primary group included (CVE-2023-25173). */
  readonly additionalGids: readonly number[];
  /** Absent when the image's passwd does not know the user. */
  readonly name?: ByteString;
  readonly home?: ByteString;
}

/**
 * What a container engine makes of the image's USER, from the image's own accounts. OCI
 * config.md: with an explicit group, supplementary groups are ignored. A numeric user that
 * passwd does not know gets group 0. Throws `image.bad_config` for a name that nobody has.
 */
export function resolveUser(spec: UserSpec, accounts: Accounts): ResolvedUser {
  const entry = findUser(spec.user, accounts);
  const uid = spec.user.kind === 'id' ? spec.user.id : requireKnown(spec.user, 'user', entry).uid;
  const gid = spec.group === undefined ? (entry?.gid ?? 0) : groupId(spec.group, accounts);
  const gids = new Set([gid]);
  if (spec.group === undefined && entry !== undefined) {
    for (const group of accounts.groups) {
      if (group.members.includes(entry.name)) gids.add(group.gid);
    }
  }
  return {
    uid,
    gid,
    additionalGids: [...gids].sort((a, b) => a - b),
    ...(entry === undefined ? {} : { name: entry.name, home: entry.home }),
  };
}

function findUser(user: AccountName, { users }: Accounts): PasswdEntry | undefined {
  if (user.kind === 'id') return users.find(({ uid }) => uid === user.id);
  const name = bytesOf(user.name);
  return users.find((entry) => entry.name === name);
}

function groupId(group: AccountName, { groups }: Accounts): number {
  if (group.kind === 'id') return group.id;
  const name = bytesOf(group.name);
  const entry = groups.find((candidate) => candidate.name === name);
  return requireKnown(group, 'group', entry).gid;
}

function requireKnown<T>(
  account: AccountName & { kind: 'name' },
  what: 'user' | 'group',
  entry: T | undefined,
): T {
  if (entry !== undefined) return entry;
  const file = what === 'user' ? '/etc/passwd' : '/etc/group';
  throw new BuilderdError(
    'image.bad_config',
    `Cannot resolve the ${what} "${escapeBytes(bytesOf(account.name))}": ${file} of the image does not name it`,
  );
}
