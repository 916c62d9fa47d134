import { BuilderdError } from '../../core/errors.ts';
import type { Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';
import { addUsage } from '../usage/add-usage.ts';
import { eraseSecrets, RELEASED } from './end-build.ts';
import { storableText } from './storable-text.ts';

/** A row of `builds` that is not what builderd writes. */
export interface UnreadableBuild {
  /** As it stands there: it may be no id at all. */
  readonly id: string;
  readonly reason: BuilderdError;
}

/**
 * Ends a build whose row nobody can read, so that the queue goes on without it. For a row that is
 * locked by the caller, pending or held. What can still be counted is counted.
 */
export async function failUnreadable(tx: Db, { id, reason }: UnreadableBuild): Promise<void> {
  const error = new BuilderdError('internal', `Cannot run the build: ${reason.message}`);
  const ended = await tx.k
    .updateTable('builds')
    .set((eb) => ({
      state: 'failed',
      ...RELEASED,
      finished_at: tx.now,
      error_code: error.code,
      error_message: storableText(error.message),
      version: eb('version', '+', 1),
      updated_at: tx.now,
    }))
    .where('id', '=', id)
    .returning(['tenant_id'])
    .executeTakeFirst();
  if (ended === undefined) return;
  for (const table of ['attempts', 'steps'] as const) {
    await tx.k
      .updateTable(table)
      .set({ finished_at: tx.now, outcome: 'failed' })
      .where('build_id', '=', id)
      .where('finished_at', 'is', null)
      .execute();
  }
  await eraseSecrets(tx, id);
  const tenantId = ended.tenant_id;
  const tenant = await tx.k
    .selectFrom('tenants')
    .select('id')
    .where('id', '=', tenantId)
    .executeTakeFirst();
  if (tenant === undefined) return;
  await addUsage(tx, tenantId, { buildsFailed: 1 });
  const data = { state: 'failed', code: error.code } as const;
  await appendEvent(tx, { tenantId, buildId: id, type: 'build.failed', data });
}
