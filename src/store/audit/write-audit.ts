import { newId } from '../../core/ids.ts';
import type { Db } from '../database.ts';

/** Who did it, as authentication found: fields of the service's Caller. */
export interface AuditActor {
  readonly actor: string;
  readonly requestId: string;
  readonly address: string;
}

export interface NewAudit {
  readonly tenantId?: string;
  /** `tenant.update`, `token.create`, `build.cancel`: the thing, a dot, the verb. */
  readonly action: string;
  /** Id or name of what was changed. */
  readonly target: string;
  /** JSON values without secrets: they stay for as long as the log does. */
  readonly oldValue?: unknown;
  readonly newValue?: unknown;
}

const MAX_VALUE = 16 * 1024;
const MAX_FIELD = 300;

/** Appends one row to the audit log, in the transaction of the change that it tells of. */
export async function writeAudit(tx: Db, by: AuditActor, entry: NewAudit): Promise<void> {
  await tx.k
    .insertInto('audit')
    .values({
      id: newId(),
      at: tx.now,
      actor: bounded(by.actor),
      tenant_id: entry.tenantId ?? null,
      action: entry.action,
      target: bounded(entry.target),
      old_value: asJson(entry.oldValue),
      new_value: asJson(entry.newValue),
      request_id: bounded(by.requestId),
      address: bounded(by.address),
    })
    .execute();
}

/** What PostgreSQL's text cannot hold is taken out. */
function bounded(text: string): string {
  return text.replaceAll('\0', '').toWellFormed().slice(0, MAX_FIELD);
}

function asJson(value: unknown): string | null {
  if (value === undefined) return null;
  const json = JSON.stringify(value);
  return json.length <= MAX_VALUE ? json : JSON.stringify({ truncated: true, chars: json.length });
}
