import type { QuotaType } from '../../core/quotas.ts';
import { newId } from '../../core/ids.ts';
import type { Db } from '../database.ts';
import { appendEvent } from '../events/append-event.ts';
import { readInteger } from '../row-values.ts';

export interface NewViolation {
  readonly tenantId: string;
  readonly buildId?: string;
  readonly quotaType: QuotaType;
  readonly current: number;
  readonly limit: number;
  /** For people; no secrets. */
  readonly message: string;
}

/** A caller that hammers a full quota must not fill the table: one row per type in this time. */
const SAME_VIOLATION_MS = 60_000;
const MAX_MESSAGE = 500;

/**
 * Notes that a quota was reached. The first time in a minute it writes a row and a
 * `quota.exceeded` event, then it only brings that row up to date. A transaction that ends in a
 * throw takes the note with it: record in one that commits.
 */
export async function recordViolation(
  tx: Db,
  violation: NewViolation,
): Promise<{ readonly isNew: boolean }> {
  const facts = {
    build_id: violation.buildId ?? null,
    current_value: Math.round(violation.current),
    limit_value: Math.round(violation.limit),
    // PostgreSQL's text cannot hold NUL.
    message: violation.message.replaceAll('\0', '').toWellFormed().slice(0, MAX_MESSAGE),
  };
  const recent = await tx.k
    .selectFrom('quota_violations')
    .select(['id', 'created_at', tx.now.as('now')])
    .where('tenant_id', '=', violation.tenantId)
    .where('quota_type', '=', violation.quotaType)
    .orderBy('created_at', 'desc')
    .limit(1)
    .executeTakeFirst();
  if (recent !== undefined) {
    const ageMs =
      readInteger(recent.now, 'now') -
      readInteger(recent.created_at, 'quota_violations.created_at');
    if (ageMs < SAME_VIOLATION_MS) {
      await tx.k.updateTable('quota_violations').set(facts).where('id', '=', recent.id).execute();
      return { isNew: false };
    }
  }
  await tx.k
    .insertInto('quota_violations')
    .values({
      id: newId(),
      tenant_id: violation.tenantId,
      quota_type: violation.quotaType,
      created_at: tx.now,
      ...facts,
    })
    .execute();
  await appendEvent(tx, {
    tenantId: violation.tenantId,
    ...(violation.buildId === undefined ? {} : { buildId: violation.buildId }),
    type: 'quota.exceeded',
    data: {
      quotaType: violation.quotaType,
      current: facts.current_value,
      limit: facts.limit_value,
      message: facts.message,
    },
  });
  return { isNew: true };
}
