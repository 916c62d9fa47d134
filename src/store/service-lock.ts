import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { BuilderdError } from '../core/errors.ts';
import { prepareDataFile } from './data-directory.ts';
import { refuseLink } from './sqlite-driver.ts';
import { isSqliteBusy, sqliteFault } from './sqlite-fault.ts';

/** One of each may work on a data directory. The command line takes none. */
export type LockedRole = 'api' | 'executor';

/**
 * Makes the caller the directory's only process of this role until disposal or death: two services
 * on one SQLite file are refused, the api and the executor of one service are not. The lock is
 * SQLite's own exclusive one on a file of its own: the kernel frees it with the process, so that
 * nothing stale is left after a crash. Throws `service.unavailable` while another holds it.
 */
export async function holdServiceLock(directory: string, role: LockedRole): Promise<Disposable> {
  const file = path.join(directory, `${role}.lock`);
  const lock = await holdFileLock(file);
  if (lock !== undefined) return lock;
  const holder = await holderOf(file);
  throw new BuilderdError(
    'service.unavailable',
    `Cannot start a second ${role} on "${directory}": ${holder === undefined ? 'another process' : `process ${holder}`} has it; one service works on one SQLite database`,
  );
}

/** Undefined while another process has it. The file is made where there is none. */
export async function holdFileLock(file: string): Promise<Disposable | undefined> {
  await prepareDataFile(file, { create: true });
  const db = new DatabaseSync(file, {
    timeout: 0,
    defensive: true,
    enableDoubleQuotedStringLiterals: false,
  });
  try {
    refuseLink(db, file);
    db.exec('pragma locking_mode = exclusive');
    // A rollback journal would be a second file; nothing is ever written.
    db.exec('pragma journal_mode = memory');
    db.exec('begin exclusive');
    return { [Symbol.dispose]: () => void (db.isOpen && db.close()) };
  } catch (reason) {
    db.close();
    if (isSqliteBusy(reason)) return undefined;
    throw sqliteFault(reason, `lock "${file}"`);
  }
}

/** proc_locks(5): `1: POSIX  ADVISORY  WRITE 1234 fd:01:7343 0 EOF`; the number is 0 from elsewhere. */
async function holderOf(file: string): Promise<number | undefined> {
  const { ino } = await stat(file);
  for (const line of (await readFile('/proc/locks', 'utf8')).split('\n')) {
    const [, , , , pid, place] = line.split(/\s+/);
    if (place?.endsWith(`:${ino}`) === true && Number(pid) > 0) return Number(pid);
  }
  return undefined;
}
