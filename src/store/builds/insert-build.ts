import type { BuildId, TenantId } from '../../core/ids.ts';
import type { Db } from '../database.ts';

export interface NewBuild {
  readonly id: BuildId;
  readonly tenantId: TenantId;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly priority: number;
  /** JSON of the request. Without secrets: they go to `build_secrets`, sealed. */
  readonly requestJson: string;
  readonly wireConfig: string | undefined;
  readonly traceParent: string | undefined;
  readonly createdBy: string;
  readonly timeoutMs: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly sealedSecrets: Uint8Array | undefined;
}

/** Puts a build at the end of its tenant's queue. */
export async function insertBuild(tx: Db, build: NewBuild): Promise<void> {
  await tx.k
    .insertInto('builds')
    .values({
      id: build.id,
      tenant_id: build.tenantId,
      state: 'pending',
      priority: build.priority,
      name: build.name,
      labels: JSON.stringify(build.labels),
      request: build.requestJson,
      wire_config: build.wireConfig ?? null,
      trace_parent: build.traceParent ?? null,
      created_by: build.createdBy,
      created_at: tx.now,
      started_at: null,
      finished_at: null,
      not_before: tx.now,
      timeout_ms: build.timeoutMs,
      deadline_at: null,
      owner: null,
      host: null,
      lease_until: null,
      id_slot: null,
      cancel_requested_at: null,
      memory_bytes: build.memoryBytes,
      disk_bytes: build.diskBytes,
      error_code: null,
      error_message: null,
      source_reference: null,
      source_digest: null,
      image: null,
      metrics: null,
      isolation: null,
      deleted_at: null,
      updated_at: tx.now,
    })
    .execute();
  if (build.sealedSecrets !== undefined) {
    await tx.k
      .insertInto('build_secrets')
      .values({ build_id: build.id, sealed: build.sealedSecrets })
      .execute();
  }
}
