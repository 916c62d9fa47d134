import { pino, type Logger } from 'pino';
import { BuilderdError, isBuilderdError, messageOf } from '../../core/errors.ts';
import type { Log, LogFields } from '../../core/log.ts';
import type { LineSink } from './line-sink.ts';
import type { Redact } from './redact.ts';
import { textLine } from './text-line.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevelName = (typeof LOG_LEVELS)[number];

export interface ServiceLog extends Log {
  /** Also of children that exist already. */
  setLevel(level: LogLevelName): void;
}

export interface LogOptions {
  readonly level: LogLevelName;
  readonly format: 'json' | 'text';
  readonly sink: Pick<LineSink, 'write'>;
  readonly redact: Redact;
  /** Which process of the service writes: in every line. */
  readonly process: string;
}

const MAX_CAUSES = 5;

/** One JSON object a line: `level` in upper case, `time` in ISO form, `msg`, and the closed set of fields. */
export function createLog(options: LogOptions): ServiceLog {
  const form = options.format === 'text' ? textLine : (line: string): string => line;
  const root = pino(
    {
      // The threshold is ours: pino's children would keep the level that they were born with.
      level: 'debug',
      base: { process: options.process },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label.toUpperCase() }) },
      serializers: { err: describeFault },
    },
    { write: (line: string) => options.sink.write(options.redact(form(line))) },
  );
  return new PinoLog(root, { rank: LOG_LEVELS.indexOf(options.level) });
}

class PinoLog implements ServiceLog {
  readonly #pino: Logger;
  readonly #threshold: { rank: number };

  constructor(logger: Logger, threshold: { rank: number }) {
    this.#pino = logger;
    this.#threshold = threshold;
  }

  debug(fields: LogFields, message: string): void {
    if (this.#threshold.rank <= 0) this.#pino.debug(fields, message);
  }

  info(fields: LogFields, message: string): void {
    if (this.#threshold.rank <= 1) this.#pino.info(fields, message);
  }

  warn(fields: LogFields, message: string): void {
    if (this.#threshold.rank <= 2) this.#pino.warn(fields, message);
  }

  error(fields: LogFields, message: string): void {
    this.#pino.error(fields, message);
  }

  child(fields: LogFields): Log {
    return new PinoLog(this.#pino.child(fields), this.#threshold);
  }

  setLevel(level: LogLevelName): void {
    this.#threshold.rank = LOG_LEVELS.indexOf(level);
  }
}

/** What a fault tells an operator. The stack only where it is our bug. */
export function describeFault(reason: unknown): Record<string, unknown> {
  const causes: string[] = [];
  let cause = reason instanceof Error ? reason.cause : undefined;
  while (cause !== undefined && causes.length < MAX_CAUSES) {
    causes.push(messageOf(cause));
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  const expected = reason instanceof BuilderdError && !isBuilderdError(reason, 'internal');
  return {
    ...(reason instanceof BuilderdError ? { code: reason.code, hint: reason.entry.hint } : {}),
    message: messageOf(reason),
    ...(causes.length === 0 ? {} : { causes }),
    ...(expected || !(reason instanceof Error) ? {} : { stack: reason.stack }),
  };
}
