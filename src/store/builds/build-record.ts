import { BUILD_STATES, type BuildState } from '../../core/build-state.ts';
import { type BuildId, parseBuildId, parseTenantId, type TenantId } from '../../core/ids.ts';
import {
  readInteger,
  readJson,
  readJsonObject,
  readOneOf,
  readOptionalInteger,
  readOptionalText,
  readText,
} from '../row-values.ts';

/** A build as the database knows it. `unknown` fields are JSON that the builds room parses. */
export interface BuildRecord {
  readonly id: BuildId;
  readonly tenantId: TenantId;
  readonly state: BuildState;
  readonly priority: number;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly request: unknown;
  readonly wireConfig: string | undefined;
  readonly createdAt: number;
  readonly startedAt: number | undefined;
  readonly finishedAt: number | undefined;
  readonly notBefore: number;
  readonly timeoutMs: number;
  readonly deadlineAt: number | undefined;
  readonly attempt: number;
  readonly cancelRequestedAt: number | undefined;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly progress: number;
  readonly currentStep: string;
  readonly errorCode: string | undefined;
  readonly errorMessage: string | undefined;
  readonly sourceReference: string | undefined;
  readonly sourceDigest: string | undefined;
  readonly image: unknown;
  readonly metrics: unknown;
  readonly isolation: unknown;
  readonly logEntries: number;
  readonly version: number;
}

/** A row of `builds`; throws `internal` for one that builderd cannot have written. */
export function parseBuildRow(row: { readonly [column: string]: unknown }): BuildRecord {
  const text = (column: string): string => readText(row[column], `builds.${column}`);
  const integer = (column: string): number => readInteger(row[column], `builds.${column}`);
  const maybeText = (column: string): string | undefined =>
    readOptionalText(row[column], `builds.${column}`);
  const maybeInteger = (column: string): number | undefined =>
    readOptionalInteger(row[column], `builds.${column}`);
  const maybeJson = (column: string): unknown =>
    row[column] === null ? undefined : readJson(row[column], `builds.${column}`);
  return {
    id: parseBuildId(text('id')),
    tenantId: parseTenantId(text('tenant_id')),
    state: readOneOf(BUILD_STATES, row['state'], 'builds.state'),
    priority: integer('priority'),
    name: text('name'),
    labels: parseLabels(row['labels']),
    request: readJson(row['request'], 'builds.request'),
    wireConfig: maybeText('wire_config'),
    createdAt: integer('created_at'),
    startedAt: maybeInteger('started_at'),
    finishedAt: maybeInteger('finished_at'),
    notBefore: integer('not_before'),
    timeoutMs: integer('timeout_ms'),
    deadlineAt: maybeInteger('deadline_at'),
    attempt: integer('attempt'),
    cancelRequestedAt: maybeInteger('cancel_requested_at'),
    memoryBytes: integer('memory_bytes'),
    diskBytes: integer('disk_bytes'),
    progress: integer('progress'),
    currentStep: text('current_step'),
    errorCode: maybeText('error_code'),
    errorMessage: maybeText('error_message'),
    sourceReference: maybeText('source_reference'),
    sourceDigest: maybeText('source_digest'),
    image: maybeJson('image'),
    metrics: maybeJson('metrics'),
    isolation: maybeJson('isolation'),
    logEntries: integer('log_entries'),
    version: integer('version'),
  };
}

function parseLabels(text: unknown): Readonly<Record<string, string>> {
  const stored = Object.entries(readJsonObject(text, 'builds.labels'));
  return Object.fromEntries(stored.map(([key, value]) => [key, readText(value, 'builds.labels')]));
}
