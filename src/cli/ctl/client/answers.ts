import {
  count,
  flag,
  id,
  json,
  list,
  map,
  number,
  object,
  optional,
  type Parsed,
  text,
  time,
} from './fields.ts';

/** The documents of the API, as this program reads them. States and types stay text: a newer server may know more. */

export const artifact = object({
  name: text,
  format: text,
  mediaType: text,
  digest: text,
  sizeBytes: count,
  createdAt: time,
});
export type Artifact = Parsed<typeof artifact>;

const waiting = object({ reason: text, ahead: count, message: text });
const buildError = object({ code: text, message: text, fault: text, hint: text });
const step = object({
  attempt: count,
  state: text,
  name: text,
  startedAt: time,
  finishedAt: optional(time),
  outcome: optional(text),
});

export const build = object({
  id,
  tenant: text,
  state: text,
  name: text,
  labels: map(text),
  priority: number,
  spec: json,
  createdAt: time,
  startedAt: optional(time),
  finishedAt: optional(time),
  deadlineAt: optional(time),
  timeoutMs: count,
  attempt: count,
  cancelRequested: flag,
  progressPercent: number,
  currentStep: text,
  waiting: optional(waiting),
  error: optional(buildError),
  source: optional(object({ reference: text, digest: text })),
  image: optional(json),
  metrics: optional(json),
  isolation: optional(json),
  artifacts: list(artifact),
  steps: list(step),
  version: count,
});
export type Build = Parsed<typeof build>;

export const buildPage = object({ builds: list(build), total: count, nextCursor: optional(text) });
export const artifactList = object({ artifacts: list(artifact) });

export const buildStats = object({
  totalBuilds: count,
  successfulBuilds: count,
  failedBuilds: count,
  averageBuildMs: number,
  totalStorageBytes: count,
  totalComputeMinutes: number,
  recentBuilds: list(build),
});

export const logEntry = object({
  n: count,
  time,
  level: text,
  component: text,
  message: text,
  metadata: optional(map(text)),
});
export type LogEntry = Parsed<typeof logEntry>;
export const logPage = object({ entries: list(logEntry), next: count, ended: flag });

export const event = object({
  seq: count,
  type: text,
  buildId: optional(id),
  at: time,
  data: json,
});
export type ServiceEvent = Parsed<typeof event>;
export const eventPage = object({ events: list(event), next: count });

export const quotas = map(json);
export const tenant = object({
  name: text,
  id,
  tier: text,
  suspended: flag,
  overrides: quotas,
  quotas,
  createdAt: time,
  version: count,
});
export type Tenant = Parsed<typeof tenant>;
export const tenantList = object({ tenants: list(tenant) });

export const usage = object({
  activeBuilds: count,
  queuedBuilds: count,
  dailyBuildsUsed: count,
  storageBytesUsed: count,
  computeMinutesUsed: number,
  buildsCompletedToday: count,
  buildsFailedToday: count,
});
export const usageDays = object({
  days: list(
    object({
      day: text,
      buildsCreated: count,
      buildsCompleted: count,
      buildsFailed: count,
      buildsCancelled: count,
      buildMs: count,
      cpuUs: count,
      pulledBytes: count,
      writtenBytes: count,
      servedBytes: count,
    }),
  ),
});
export const violations = object({
  violations: list(
    object({ quotaType: text, currentValue: number, limitValue: number, message: text, at: time }),
  ),
});

export const token = object({
  id,
  prefix: text,
  role: text,
  tenant: optional(text),
  name: text,
  createdAt: time,
  expiresAt: optional(time),
  revokedAt: optional(time),
  lastUsedAt: optional(time),
});
export type Token = Parsed<typeof token>;
export const tokenPage = object({ tokens: list(token), nextCursor: optional(text) });
export const newToken = object({ token, secret: text });

export const credential = object({
  id,
  kind: text,
  host: text,
  createdAt: time,
  updatedAt: time,
});
export const credentialList = object({ credentials: list(credential) });

export const webhook = object({
  id,
  url: text,
  events: list(text),
  active: flag,
  disabledReason: optional(text),
  createdAt: time,
  lastDelivery: optional(object({ at: time, status: optional(count), error: optional(text) })),
});
export const webhookList = object({ webhooks: list(webhook) });
export const newWebhook = object({ webhook, secret: text });

export const auditList = object({
  entries: list(
    object({
      at: time,
      actor: text,
      tenant: optional(text),
      action: text,
      target: text,
      oldValue: optional(json),
      newValue: optional(json),
      requestId: text,
      address: text,
    }),
  ),
});
