/** Every field that a log line may carry: a closed set, so that logs can be searched and nothing leaks. */
export interface LogFields {
  readonly err?: unknown;
  readonly buildId?: string;
  readonly tenantId?: string;
  readonly tenant?: string;
  readonly attempt?: number;
  readonly requestId?: string;
  readonly role?: string;
  readonly method?: string;
  readonly route?: string;
  readonly status?: number;
  readonly durationMs?: number;
  readonly code?: string;
  /** `completed`, `failed`, `cancelled`: what the guide's log searches look for. */
  readonly build_status?: string;
  readonly quotaType?: string;
  readonly current?: number;
  readonly limit?: number;
  readonly step?: string;
  readonly host?: string;
  readonly executor?: string;
  readonly traceId?: string;
  readonly count?: number;
  readonly bytes?: number;
  readonly pid?: number;
  readonly signal?: string;
  readonly setting?: string;
  readonly address?: string;
}

/** Messages are constants; what varies is in the fields. One line per event, where it is handled. */
export interface Log {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  child(fields: LogFields): Log;
}
