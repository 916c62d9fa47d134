import { BuilderdError } from '../../core/errors.ts';
import type { Log, LogFields } from '../../core/log.ts';
import { SecretMask } from '../logs/secret-mask.ts';

const MAX_CAUSES = 8;

/**
 * What an attempt may log in with, as it is opened. A registry that was shown a password can put it
 * into anything that it says: faults pass through here before they reach the row of the build, its
 * log or the service's. For one attempt alone: no tenant can have words of other builds masked.
 */
export class AttemptSecrets {
  readonly #texts = new Set<string>();
  #mask = new SecretMask([]);

  get texts(): readonly string[] {
    return [...this.#texts];
  }

  add(texts: readonly string[]): void {
    const before = this.#texts.size;
    for (const text of texts) this.#texts.add(text);
    if (this.#texts.size > before) this.#mask = new SecretMask([...this.#texts]);
  }

  cover(text: string): string {
    return this.#mask.applyOnce(text);
  }

  /** The same fault where it shows nothing, else one like it with masks. */
  coverFault(reason: unknown, depth = 0): unknown {
    if (typeof reason === 'string') return this.cover(reason);
    if (!(reason instanceof Error)) return reason;
    // Whatever lies deeper is shown to nobody.
    const inner = (each: unknown): unknown =>
      depth < MAX_CAUSES ? this.coverFault(each, depth + 1) : undefined;
    if (reason instanceof SuppressedError) {
      const { error, suppressed }: { error: unknown; suppressed: unknown } = reason;
      return new SuppressedError(inner(error), inner(suppressed), this.cover(reason.message));
    }
    const message = this.cover(reason.message);
    const cause = inner(reason.cause);
    const stack = reason.stack === undefined ? undefined : this.cover(reason.stack);
    const details = reason instanceof BuilderdError ? this.#coverDetails(reason.details) : {};
    const same =
      message === reason.message &&
      cause === reason.cause &&
      stack === reason.stack &&
      (!(reason instanceof BuilderdError) || details === reason.details);
    if (same) return reason;
    const copy =
      reason instanceof BuilderdError
        ? new BuilderdError(reason.code, message, { details, cause })
        : new Error(message, { cause });
    if (stack !== undefined) copy.stack = stack;
    return copy;
  }

  /** The same log, whose faults show none of the secrets known by then. */
  watch(log: Log): Log {
    const covered = ({ err, ...fields }: LogFields): LogFields =>
      err === undefined ? fields : { ...fields, err: this.coverFault(err) };
    return {
      debug: (fields, message) => log.debug(covered(fields), message),
      info: (fields, message) => log.info(covered(fields), message),
      warn: (fields, message) => log.warn(covered(fields), message),
      error: (fields, message) => log.error(covered(fields), message),
      child: (fields) => this.watch(log.child(fields)),
    };
  }

  #coverDetails(details: BuilderdError['details']): BuilderdError['details'] {
    const covered = Object.entries(details).map(
      ([name, value]) => [name, typeof value === 'string' ? this.cover(value) : value] as const,
    );
    const changed = covered.some(([name, value]) => details[name] !== value);
    return changed ? Object.fromEntries(covered) : details;
  }
}
