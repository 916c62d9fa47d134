import type { Generated } from 'kysely';

/**
 * The tables, as both databases have them. Times are milliseconds since 1970 by the database's
 * clock; JSON is text; booleans are 0 and 1; ids are UUIDs. What is read here is parsed before use:
 * every row is hostile input to the executor.
 */
export interface Schema {
  meta: { key: string; value: string };
  tenants: TenantRow;
  tokens: TokenRow;
  builds: BuildRow;
  attempts: AttemptRow;
  steps: StepRow;
  events: EventRow;
  log_segments: LogSegmentRow;
  blobs: BlobRow;
  condemned_blobs: CondemnedBlobRow;
  build_artifacts: BuildArtifactRow;
  usage_daily: UsageDailyRow;
  quota_violations: QuotaViolationRow;
  idempotency_keys: IdempotencyKeyRow;
  credentials: CredentialRow;
  build_secrets: { build_id: string; sealed: Uint8Array };
  webhooks: WebhookRow;
  webhook_deliveries: WebhookDeliveryRow;
  data_keys: DataKeyRow;
  audit: AuditRow;
  executors: ExecutorRow;
}

export interface TenantRow {
  id: string;
  name: string;
  tier: string;
  /** JSON of a partial Quotas: what an operator changed against the tier. */
  overrides: string;
  suspended: number;
  /** Bytes of all artifacts, kept in the same transaction as the rows. */
  storage_bytes: Generated<number>;
  /** Last number given to an event of this tenant. */
  event_seq: Generated<number>;
  /** Virtual time at which its next claim is due: grows by less for a larger weight. */
  claim_pass: Generated<number>;
  /** Raised by every change, for If-Match. */
  version: Generated<number>;
  created_at: number;
  updated_at: number;
}

export interface TokenRow {
  id: string;
  /** SHA-256 of the token: 256 random bits need no slow hash. */
  hash: Uint8Array;
  /** First characters, for people. */
  prefix: string;
  /** Absent for operator tokens. */
  tenant_id: string | null;
  role: 'operator' | 'tenant' | 'reader';
  name: string;
  created_at: number;
  created_by: string;
  expires_at: number | null;
  revoked_at: number | null;
  last_used_at: number | null;
}

export interface BuildRow {
  id: string;
  tenant_id: string;
  state: string;
  priority: number;
  name: string;
  /** JSON object of texts. */
  labels: string;
  /** JSON of the request (BuildSpec), without secrets. */
  request: string;
  /** JSON of the RPC's BuildConfig, without secrets, when it came that way: GetBuild echoes it. */
  wire_config: string | null;
  /** W3C traceparent of the request: one trace from there to the artifact. */
  trace_parent: string | null;
  created_by: string;
  created_at: number;
  started_at: number | null;
  finished_at: number | null;
  /** A retry waits until then. */
  not_before: number;
  timeout_ms: number;
  /** Set by the first claim; retries do not move it. */
  deadline_at: number | null;
  /** Counts claims; the fencing token of every later write. */
  attempt: Generated<number>;
  /** Executor that holds the claim. */
  owner: string | null;
  host: string | null;
  lease_until: number | null;
  /** Slot in the host's pool of id ranges, unique among its live builds. */
  id_slot: number | null;
  cancel_requested_at: number | null;
  /** Reserved at admission. */
  memory_bytes: number;
  disk_bytes: number;
  progress: Generated<number>;
  current_step: Generated<string>;
  error_code: string | null;
  error_message: string | null;
  source_reference: string | null;
  source_digest: string | null;
  /** JSON: ImageMetadata of the wire contract. */
  image: string | null;
  /** JSON: BuildMetrics of the wire contract, and ours. */
  metrics: string | null;
  /** JSON: BuildIsolation of the wire contract. */
  isolation: string | null;
  /** Log entries so far: the next entry's number. */
  log_entries: Generated<number>;
  log_bytes: Generated<number>;
  log_dropped_bytes: Generated<number>;
  /** Set when a delete was accepted; the row goes when the files are gone. */
  deleted_at: number | null;
  version: Generated<number>;
  updated_at: number;
}

export interface AttemptRow {
  build_id: string;
  attempt: number;
  owner: string;
  host: string;
  started_at: number;
  finished_at: number | null;
  outcome: string | null;
  error_code: string | null;
  error_message: string | null;
}

/** One state (and later one build step) that an attempt passed through. */
export interface StepRow {
  build_id: string;
  attempt: number;
  seq: number;
  state: string;
  name: string;
  started_at: number;
  finished_at: number | null;
  outcome: string | null;
}

export interface EventRow {
  tenant_id: string;
  /** Without gaps per tenant, in commit order. */
  seq: number;
  build_id: string | null;
  type: string;
  data: string;
  created_at: number;
}

export interface LogSegmentRow {
  build_id: string;
  /** Number of the first entry; entries are numbered from 0 without gaps. */
  first_entry: number;
  entries: number;
  attempt: number;
  /** NDJSON, one entry a line. */
  data: Uint8Array;
  created_at: number;
}

export interface BlobRow {
  tenant_id: string;
  digest: string;
  size_bytes: number;
  /** On disk: more than size_bytes when encrypted. */
  stored_bytes: number;
  /** Part of the stored name; a new one for every copy. */
  generation: string;
  data_key_id: string | null;
  state: 'present' | 'missing' | 'corrupt';
  created_at: number;
  verified_at: number | null;
}

/** A stored copy that no blob row names: removed when it has been here for its grace period. */
export interface CondemnedBlobRow {
  tenant_id: string;
  digest: string;
  generation: string;
  stored_bytes: number;
  /** Why no row names it, see store/artifacts/condemned-rows.ts. */
  kind: string;
  condemned_at: number;
}

export interface BuildArtifactRow {
  build_id: string;
  tenant_id: string;
  /** `rootfs.ext4`, `metadata.json`, `fidelity.json`, `build.log`. */
  name: string;
  format: string;
  media_type: string;
  digest: string;
  size_bytes: number;
  created_at: number;
}

export interface UsageDailyRow {
  tenant_id: string;
  /** UTC day, `2026-11-23`. */
  day: string;
  builds_created: Generated<number>;
  builds_completed: Generated<number>;
  builds_failed: Generated<number>;
  builds_cancelled: Generated<number>;
  build_ms: Generated<number>;
  cpu_us: Generated<number>;
  pulled_bytes: Generated<number>;
  written_bytes: Generated<number>;
  served_bytes: Generated<number>;
}

export interface QuotaViolationRow {
  id: string;
  tenant_id: string;
  build_id: string | null;
  quota_type: string;
  current_value: number;
  limit_value: number;
  message: string;
  created_at: number;
}

export interface IdempotencyKeyRow {
  tenant_id: string;
  key: string;
  request_hash: string;
  build_id: string;
  created_at: number;
}

export interface CredentialRow {
  id: string;
  tenant_id: string;
  kind: 'registry' | 'git';
  host: string;
  /** Sealed under the master key; never read back over the API. */
  sealed: Uint8Array;
  created_at: number;
  updated_at: number;
}

export interface WebhookRow {
  id: string;
  tenant_id: string;
  url: string;
  /** JSON list of event types. */
  events: string;
  /** Signing secret, sealed. */
  sealed: Uint8Array;
  active: number;
  /** Why deliveries were stopped; null while they are wanted. */
  disabled_reason: string | null;
  /** The latest attempt, delivered or not. */
  last_at: number | null;
  last_status: number | null;
  last_error: string | null;
  last_success_at: number | null;
  /** Deliveries that were given up because too many waited. */
  dropped: Generated<number>;
  created_at: number;
  updated_at: number;
}

export interface WebhookDeliveryRow {
  id: string;
  webhook_id: string;
  tenant_id: string;
  event_seq: number;
  attempts: Generated<number>;
  /** Null when delivered or given up. */
  next_at: number | null;
  status: number | null;
  last_error: string | null;
  delivered_at: number | null;
  created_at: number;
}

export interface DataKeyRow {
  id: string;
  tenant_id: string;
  /** The tenant's age identity, sealed under the master key. */
  sealed: Uint8Array;
  created_at: number;
  retired_at: number | null;
}

export interface AuditRow {
  id: string;
  at: number;
  actor: string;
  tenant_id: string | null;
  action: string;
  target: string;
  /** JSON, without secrets. */
  old_value: string | null;
  new_value: string | null;
  request_id: string;
  address: string;
}

export interface ExecutorRow {
  id: string;
  host: string;
  version: string;
  capabilities: string;
  draining: number;
  started_at: number;
  heartbeat_at: number;
}
