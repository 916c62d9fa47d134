import { fail, ok, warn, type Check } from './check.ts';
import { compareVersions, parseVersion, type VersionParts } from './version-floor.ts';

const CONVERT: VersionParts = [5, 4, 0];
const STEPS: VersionParts = [5, 19, 0];
const CGROUP_KILL: VersionParts = [5, 14, 0];
const TMPFS_IDMAP: VersionParts = [6, 3, 0];

export function checkKernelVersion(release: string): Check {
  const id = 'kernel.version';
  const version = parseVersion(release);
  if (version === undefined) return warn(id, `kernel ${release}`, 'Compare it with 5.19 by hand.');
  if (compareVersions(version, CONVERT) < 0) {
    return fail(id, `kernel ${release} is older than 5.4`, 'Upgrade the kernel to 5.4 or later.');
  }
  const lacks: string[] = [];
  if (compareVersions(version, CGROUP_KILL) < 0) lacks.push('cgroup.kill (5.14)');
  if (compareVersions(version, STEPS) < 0) lacks.push('overlayfs over id-mapped layers (5.19)');
  if (compareVersions(version, TMPFS_IDMAP) < 0) lacks.push('id-mapped tmpfs (6.3)');
  if (lacks.length === 0) return ok(id, `kernel ${release}`);
  const advice =
    compareVersions(version, STEPS) < 0
      ? 'Upgrade the kernel to 5.19 or later before you run build steps.'
      : 'Nothing for now; 6.3 or later is best.';
  return warn(id, `kernel ${release} lacks ${lacks.join(', ')}`, advice);
}

export interface UserNamespaceFacts {
  /** /proc/sys/user/max_user_namespaces */
  readonly max: string | undefined;
  /** Debian's kernel.unprivileged_userns_clone */
  readonly debianClone: string | undefined;
  /** Ubuntu's kernel.apparmor_restrict_unprivileged_userns */
  readonly appArmor: string | undefined;
  readonly isRoot: boolean;
}

export function checkUserNamespaces(facts: UserNamespaceFacts): Check {
  const id = 'kernel.user_namespaces';
  const { max, debianClone, appArmor, isRoot } = facts;
  if (max === undefined) {
    return warn(id, 'the kernel has no user namespaces', 'Build steps need CONFIG_USER_NS.');
  }
  if (Number(max) === 0) {
    return warn(
      id,
      'user namespaces are switched off (user.max_user_namespaces is 0)',
      'Raise user.max_user_namespaces before you run build steps.',
    );
  }
  const closed = debianClone === '0' || appArmor === '1';
  if (closed && !isRoot) {
    return warn(
      id,
      'only root may make user namespaces here',
      'The executor runs as root and is not affected.',
    );
  }
  return ok(id, `user namespaces are available (at most ${max})`);
}

/**
 * Whether overlayfs works over id-mapped layers shows only when it is mounted, which takes the
 * helper program and root; nothing is guessed.
 */
export function checkIdMappedOverlay(filesystems: string | undefined, release: string): Check {
  const id = 'kernel.idmapped_overlay';
  const overlay = /^\s*(?:nodev\s+)?overlay$/m.test(filesystems ?? '');
  const version = parseVersion(release);
  if (!overlay) {
    return warn(
      id,
      'overlay is not among the file systems of the running kernel',
      'Run `modprobe overlay`; build steps need it, converting does not.',
    );
  }
  if (version !== undefined && compareVersions(version, STEPS) < 0) {
    return warn(id, 'overlay is there; id-mapped layers need kernel 5.19', 'Upgrade the kernel.');
  }
  return warn(
    id,
    'overlay is there; id-mapped layers are not probed by this version',
    'Nothing for converting images; build steps will probe it.',
  );
}

export function checkSeccomp(actions: string | undefined): Check {
  const id = 'kernel.seccomp';
  if (actions === undefined) {
    return warn(id, 'the kernel has no seccomp filters', 'Build steps need CONFIG_SECCOMP_FILTER.');
  }
  return ok(id, `seccomp filters with ${actions}`);
}
