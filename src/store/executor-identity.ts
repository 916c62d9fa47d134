import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { asBuilderdError, BuilderdError } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import { readText } from './row-values.ts';
import { refuseLink } from './sqlite-driver.ts';

/** The right to be the executor of one data directory, held until disposal or death. */
export interface ExecutorIdentity extends Disposable {
  /** New for every process: what claims are made under. */
  readonly id: string;
  /** Ids of executors that ran here before and were not yet cleaned up after. None of them lives. */
  readonly earlier: readonly string[];
  /** To be called when nothing is held under the earlier ids any more. */
  forgetEarlier(): void;
}

const FILE = 'executor.lock';

/**
 * Takes the directory's lock and a fresh id. The lock is SQLite's exclusive one: the kernel frees
 * it when the process dies, however it dies, so whoever gets it knows that the executors noted in
 * the file are dead, and need not wait until their claims expire.
 * Throws `service.unavailable` while another process holds it, `host.permission` for a link.
 */
export function claimExecutorIdentity(directory: string): ExecutorIdentity {
  const id = newId();
  const file = path.join(directory, FILE);
  const db = new DatabaseSync(file, {
    timeout: 0,
    defensive: true,
    enableDoubleQuotedStringLiterals: false,
  });
  try {
    // Nothing is read or written before.
    refuseLink(db, file);
    // Locks are kept from the first transaction on, not dropped at its end.
    db.exec('pragma locking_mode = exclusive');
    db.exec('pragma journal_mode = delete');
    db.exec('pragma synchronous = full');
    db.exec('begin exclusive');
    db.exec('create table if not exists executors (id text primary key) strict');
    const rows = db.prepare('select id from executors').all();
    const earlier = rows.map((row) => readText(row['id'], 'executors.id'));
    db.prepare('insert into executors (id) values (?)').run(id);
    db.exec('commit');
    return {
      id,
      earlier,
      forgetEarlier: () => {
        db.prepare('delete from executors where id <> ?').run(id);
      },
      [Symbol.dispose]: () => {
        if (db.isOpen) db.close();
      },
    };
  } catch (reason) {
    db.close();
    throw lockFault(reason, directory);
  }
}

function lockFault(reason: unknown, directory: string): BuilderdError {
  // SQLITE_BUSY; extended codes carry it in their lowest byte.
  const code = reason instanceof Error && 'errcode' in reason ? reason.errcode : undefined;
  if (typeof code === 'number' && (code & 0xff) === 5) {
    return new BuilderdError(
      'service.unavailable',
      `Cannot start an executor on ${directory}: another one runs there`,
      { cause: reason },
    );
  }
  return asBuilderdError(reason, `lock ${path.join(directory, FILE)}`);
}
