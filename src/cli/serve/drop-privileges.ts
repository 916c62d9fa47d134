import { BuilderdError } from '../../core/errors.ts';
import type { Identity } from './role-protocol.ts';

/**
 * Becomes the service user for good, in all threads. Everything that only root may open must be
 * open, and every module loaded, because the code may lie where this user cannot read it.
 */
export function dropPrivileges({ uid, gid, name }: Identity): void {
  if (process.setgroups === undefined) throw notPossible(name, 'this system has no setgroups()');
  process.setgroups([]);
  process.setgid?.(gid);
  process.setuid?.(uid);
  const now = [process.getuid?.(), process.geteuid?.(), process.getgid?.(), process.getegid?.()];
  if (
    now.join() !== [uid, uid, gid, gid].join() ||
    (process.getgroups?.() ?? []).some((each) => each !== gid)
  ) {
    throw notPossible(name, 'the kernel kept some of the old ids');
  }
  let regained = true;
  try {
    process.setuid?.(0);
  } catch {
    regained = false;
  }
  if (regained) throw notPossible(name, 'it could become root again');
}

function notPossible(name: string, fact: string): BuilderdError {
  return new BuilderdError('host.permission', `Cannot become ${name}: ${fact}`);
}
