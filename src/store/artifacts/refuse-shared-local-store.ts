import { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { readText } from '../row-values.ts';

/** An executor that has not been heard of for so long is not there any more. */
const GONE_MS = 5 * 60_000;

/**
 * Artifacts in a directory of one host cannot be served by another: throws `config.invalid` when an
 * executor of another host is alive on this database. To be asked when an executor starts, after it
 * has registered, so that of two that start together at least one sees the other.
 */
export async function refuseLocalStoreWithSeveralHosts(
  db: Db,
  { backend, host }: { readonly backend: 'local' | 's3'; readonly host: string },
): Promise<void> {
  if (backend !== 'local') return;
  const other = await db.k
    .selectFrom('executors')
    .select('host')
    .where('host', '<>', host)
    .where((eb) => eb(eb('heartbeat_at', '+', GONE_MS), '>', db.now))
    .limit(1)
    .executeTakeFirst();
  if (other === undefined) return;
  const name = JSON.stringify(readText(other.host, 'executors.host').slice(0, 100));
  throw new BuilderdError(
    'config.invalid',
    `Cannot keep artifacts in a local directory: an executor runs on host ${name} as well; set STORAGE_BACKEND=s3`,
  );
}
