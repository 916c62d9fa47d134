import { type QueryExecutorProvider, sql } from 'kysely';
import type { MigrationContext } from './migration-context.ts';

type Column = 'text' | 'int' | 'bytes';
type Columns = Readonly<Record<string, Column | `${Column}?` | `${Column}=0` | 'text='>>;

const TABLES: Readonly<Record<string, { columns: Columns; key: readonly string[] }>> = {
  tenants: {
    columns: {
      id: 'text',
      name: 'text',
      tier: 'text',
      overrides: 'text',
      suspended: 'int',
      storage_bytes: 'int=0',
      event_seq: 'int=0',
      claim_pass: 'int=0',
      version: 'int=0',
      created_at: 'int',
      updated_at: 'int',
    },
    key: ['id'],
  },
  tokens: {
    columns: {
      id: 'text',
      hash: 'bytes',
      prefix: 'text',
      tenant_id: 'text?',
      role: 'text',
      name: 'text',
      created_at: 'int',
      created_by: 'text',
      expires_at: 'int?',
      revoked_at: 'int?',
      last_used_at: 'int?',
    },
    key: ['id'],
  },
  builds: {
    columns: {
      id: 'text',
      tenant_id: 'text',
      state: 'text',
      priority: 'int',
      name: 'text',
      labels: 'text',
      request: 'text',
      wire_config: 'text?',
      trace_parent: 'text?',
      created_by: 'text',
      created_at: 'int',
      started_at: 'int?',
      finished_at: 'int?',
      not_before: 'int',
      timeout_ms: 'int',
      deadline_at: 'int?',
      attempt: 'int=0',
      owner: 'text?',
      host: 'text?',
      lease_until: 'int?',
      id_slot: 'int?',
      cancel_requested_at: 'int?',
      memory_bytes: 'int',
      disk_bytes: 'int',
      progress: 'int=0',
      current_step: 'text=',
      error_code: 'text?',
      error_message: 'text?',
      source_reference: 'text?',
      source_digest: 'text?',
      image: 'text?',
      metrics: 'text?',
      isolation: 'text?',
      log_entries: 'int=0',
      log_bytes: 'int=0',
      log_dropped_bytes: 'int=0',
      deleted_at: 'int?',
      version: 'int=0',
      updated_at: 'int',
    },
    key: ['id'],
  },
  attempts: {
    columns: {
      build_id: 'text',
      attempt: 'int',
      owner: 'text',
      host: 'text',
      started_at: 'int',
      finished_at: 'int?',
      outcome: 'text?',
      error_code: 'text?',
      error_message: 'text?',
    },
    key: ['build_id', 'attempt'],
  },
  steps: {
    columns: {
      build_id: 'text',
      attempt: 'int',
      seq: 'int',
      state: 'text',
      name: 'text',
      started_at: 'int',
      finished_at: 'int?',
      outcome: 'text?',
    },
    key: ['build_id', 'attempt', 'seq'],
  },
  events: {
    columns: {
      tenant_id: 'text',
      seq: 'int',
      build_id: 'text?',
      type: 'text',
      data: 'text',
      created_at: 'int',
    },
    key: ['tenant_id', 'seq'],
  },
  log_segments: {
    columns: {
      build_id: 'text',
      first_entry: 'int',
      entries: 'int',
      attempt: 'int',
      data: 'bytes',
      created_at: 'int',
    },
    key: ['build_id', 'first_entry'],
  },
  blobs: {
    columns: {
      tenant_id: 'text',
      digest: 'text',
      size_bytes: 'int',
      stored_bytes: 'int',
      generation: 'text',
      data_key_id: 'text?',
      state: 'text',
      created_at: 'int',
      verified_at: 'int?',
    },
    key: ['tenant_id', 'digest'],
  },
  condemned_blobs: {
    columns: {
      tenant_id: 'text',
      digest: 'text',
      generation: 'text',
      stored_bytes: 'int',
      kind: 'text',
      condemned_at: 'int',
    },
    key: ['tenant_id', 'digest', 'generation'],
  },
  build_artifacts: {
    columns: {
      build_id: 'text',
      tenant_id: 'text',
      name: 'text',
      format: 'text',
      media_type: 'text',
      digest: 'text',
      size_bytes: 'int',
      created_at: 'int',
    },
    key: ['build_id', 'name'],
  },
  usage_daily: {
    columns: {
      tenant_id: 'text',
      day: 'text',
      builds_created: 'int=0',
      builds_completed: 'int=0',
      builds_failed: 'int=0',
      builds_cancelled: 'int=0',
      build_ms: 'int=0',
      cpu_us: 'int=0',
      pulled_bytes: 'int=0',
      written_bytes: 'int=0',
      served_bytes: 'int=0',
    },
    key: ['tenant_id', 'day'],
  },
  quota_violations: {
    columns: {
      id: 'text',
      tenant_id: 'text',
      build_id: 'text?',
      quota_type: 'text',
      current_value: 'int',
      limit_value: 'int',
      message: 'text',
      created_at: 'int',
    },
    key: ['id'],
  },
  idempotency_keys: {
    columns: {
      tenant_id: 'text',
      key: 'text',
      request_hash: 'text',
      build_id: 'text',
      created_at: 'int',
    },
    key: ['tenant_id', 'key'],
  },
  credentials: {
    columns: {
      id: 'text',
      tenant_id: 'text',
      kind: 'text',
      host: 'text',
      sealed: 'bytes',
      created_at: 'int',
      updated_at: 'int',
    },
    key: ['id'],
  },
  build_secrets: { columns: { build_id: 'text', sealed: 'bytes' }, key: ['build_id'] },
  webhooks: {
    columns: {
      id: 'text',
      tenant_id: 'text',
      url: 'text',
      events: 'text',
      sealed: 'bytes',
      active: 'int',
      disabled_reason: 'text?',
      last_at: 'int?',
      last_status: 'int?',
      last_error: 'text?',
      last_success_at: 'int?',
      dropped: 'int=0',
      created_at: 'int',
      updated_at: 'int',
    },
    key: ['id'],
  },
  webhook_deliveries: {
    columns: {
      id: 'text',
      webhook_id: 'text',
      tenant_id: 'text',
      event_seq: 'int',
      attempts: 'int=0',
      next_at: 'int?',
      status: 'int?',
      last_error: 'text?',
      delivered_at: 'int?',
      created_at: 'int',
    },
    key: ['id'],
  },
  data_keys: {
    columns: {
      id: 'text',
      tenant_id: 'text',
      sealed: 'bytes',
      created_at: 'int',
      retired_at: 'int?',
    },
    key: ['id'],
  },
  audit: {
    columns: {
      id: 'text',
      at: 'int',
      actor: 'text',
      tenant_id: 'text?',
      action: 'text',
      target: 'text',
      old_value: 'text?',
      new_value: 'text?',
      request_id: 'text',
      address: 'text',
    },
    key: ['id'],
  },
  executors: {
    columns: {
      id: 'text',
      host: 'text',
      version: 'text',
      capabilities: 'text',
      draining: 'int',
      started_at: 'int',
      heartbeat_at: 'int',
    },
    key: ['id'],
  },
};

/** `where` is a condition over constants only; a column may be followed by ` desc`. */
const INDEXES: readonly {
  name: string;
  table: string;
  columns: readonly string[];
  unique?: true;
  where?: string;
}[] = [
  { name: 'tenants_name', table: 'tenants', columns: ['name'], unique: true },
  { name: 'tokens_hash', table: 'tokens', columns: ['hash'], unique: true },
  { name: 'tokens_tenant', table: 'tokens', columns: ['tenant_id'] },
  { name: 'tokens_parent', table: 'tokens', columns: ['created_by'] },
  { name: 'builds_list', table: 'builds', columns: ['tenant_id', 'id'] },
  {
    name: 'builds_visible',
    table: 'builds',
    columns: ['tenant_id', 'state', 'id'],
    where: 'deleted_at is null',
  },
  { name: 'builds_all', table: 'builds', columns: ['state', 'id'] },
  {
    name: 'builds_queued',
    table: 'builds',
    columns: ['tenant_id', 'priority desc', 'id'],
    where: "state = 'pending'",
  },
  {
    name: 'builds_held',
    table: 'builds',
    columns: ['tenant_id', 'lease_until'],
    where: 'owner is not null',
  },
  {
    name: 'builds_owner',
    table: 'builds',
    columns: ['owner', 'lease_until'],
    where: 'owner is not null',
  },
  {
    name: 'builds_slot',
    table: 'builds',
    columns: ['host', 'id_slot'],
    unique: true,
    where: 'id_slot is not null',
  },
  {
    name: 'builds_deleted',
    table: 'builds',
    columns: ['id'],
    where: 'deleted_at is not null',
  },
  { name: 'blobs_verified', table: 'blobs', columns: ['verified_at'] },
  { name: 'condemned_age', table: 'condemned_blobs', columns: ['condemned_at'] },
  { name: 'build_artifacts_blob', table: 'build_artifacts', columns: ['tenant_id', 'digest'] },
  {
    name: 'quota_violations_tenant',
    table: 'quota_violations',
    columns: ['tenant_id', 'created_at'],
  },
  { name: 'idempotency_age', table: 'idempotency_keys', columns: ['created_at'] },
  {
    name: 'credentials_host',
    table: 'credentials',
    columns: ['tenant_id', 'kind', 'host'],
    unique: true,
  },
  { name: 'webhooks_tenant', table: 'webhooks', columns: ['tenant_id'] },
  {
    name: 'webhook_deliveries_hook',
    table: 'webhook_deliveries',
    columns: ['webhook_id', 'next_at'],
  },
  {
    name: 'webhook_deliveries_waiting',
    table: 'webhook_deliveries',
    columns: ['webhook_id', 'event_seq'],
    where: 'next_at is not null',
  },
  {
    name: 'webhook_deliveries_due',
    table: 'webhook_deliveries',
    columns: ['next_at'],
    where: 'next_at is not null',
  },
  { name: 'data_keys_tenant', table: 'data_keys', columns: ['tenant_id', 'created_at'] },
  { name: 'audit_time', table: 'audit', columns: ['at'] },
  { name: 'audit_tenant', table: 'audit', columns: ['tenant_id', 'at'] },
];

export async function up(db: QueryExecutorProvider, { dialect }: MigrationContext): Promise<void> {
  const types =
    dialect === 'sqlite'
      ? { text: 'text', int: 'integer', bytes: 'blob' }
      : // Sorted by bytes, as SQLite does, whatever the locale of the database.
        { text: 'text collate "C"', int: 'bigint', bytes: 'bytea' };
  for (const [table, { columns, key }] of Object.entries(TABLES)) {
    const lines = Object.entries(columns).map(([column, wish]) => {
      const [, type = 'text', mark = ''] = /^(text|int|bytes)(.*)$/.exec(wish) ?? [];
      const initial = mark === '=0' ? ' default 0' : mark === '=' ? " default ''" : '';
      const native = type === 'int' ? types.int : type === 'bytes' ? types.bytes : types.text;
      return `"${column}" ${native}${mark === '?' ? '' : ' not null'}${initial}`;
    });
    lines.push(`primary key (${key.map((column) => `"${column}"`).join(', ')})`);
    const strict = dialect === 'sqlite' ? ' strict' : '';
    await sql.raw(`create table "${table}" (${lines.join(', ')})${strict}`).execute(db);
  }
  for (const { name, table, columns, unique, where } of INDEXES) {
    const list = columns
      .map((wish) => {
        const [column, direction] = wish.split(' ');
        return direction === undefined ? `"${column}"` : `"${column}" ${direction}`;
      })
      .join(', ');
    const condition = where === undefined ? '' : ` where ${where}`;
    const kind = unique ? 'unique index' : 'index';
    await sql.raw(`create ${kind} "${name}" on "${table}" (${list})${condition}`).execute(db);
  }
}
