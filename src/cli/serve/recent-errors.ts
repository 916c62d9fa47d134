import type { Log, LogFields } from '../../core/log.ts';
import { describeFault } from '../logging/create-log.ts';
import type { Redact } from '../logging/redact.ts';

export interface RecentError {
  readonly at: string;
  readonly level: 'warn' | 'error';
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

const KEPT = 50;

/** The last warnings and errors of this process, for whoever looks at `/debug/status` at night. */
export class RecentErrors {
  readonly #errors: RecentError[] = [];
  readonly #redact: Redact;

  constructor(redact: Redact) {
    this.#redact = redact;
  }

  list(): readonly RecentError[] {
    return this.#errors.toReversed();
  }

  /** The same log, which is listened to. */
  watch(log: Log, given: LogFields = {}): Log {
    return {
      debug: (fields, message) => log.debug(fields, message),
      info: (fields, message) => log.info(fields, message),
      warn: (fields, message) => {
        this.#note('warn', { ...given, ...fields }, message);
        log.warn(fields, message);
      },
      error: (fields, message) => {
        this.#note('error', { ...given, ...fields }, message);
        log.error(fields, message);
      },
      child: (fields) => this.watch(log.child(fields), { ...given, ...fields }),
    };
  }

  #note(level: 'warn' | 'error', { err, ...fields }: LogFields, message: string): void {
    const shown = err === undefined ? fields : { ...fields, err: describeFault(err) };
    // Through JSON, as the log itself goes; text by text, so that it stays JSON.
    const masked: unknown = JSON.parse(
      JSON.stringify(shown, (_, value: unknown) =>
        typeof value === 'string' ? this.#redact(value) : value,
      ),
    );
    this.#errors.push({
      at: new Date().toISOString(),
      level,
      message,
      fields: typeof masked === 'object' && masked !== null ? { ...masked } : {},
    });
    if (this.#errors.length > KEPT) this.#errors.shift();
  }
}
