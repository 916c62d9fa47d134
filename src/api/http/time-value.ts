import { BuilderdError } from '../../core/errors.ts';

const RFC3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/;

/** RFC 3339 text to milliseconds since 1970. */
export function parseTime(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  const ms = RFC3339.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isSafeInteger(ms)) return ms;
  throw new BuilderdError(
    'api.invalid',
    `Cannot use ${name}: want a time such as 2026-11-23T12:00:00Z`,
  );
}

/** `2026-11-23`, a UTC day that exists. */
export function parseDay(text: string, name: string): string {
  const ms = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN;
  if (Number.isSafeInteger(ms) && new Date(ms).toISOString().startsWith(text)) return text;
  throw new BuilderdError('api.invalid', `Cannot use ${name}: want a day such as 2026-11-23`);
}
