import { isAbsolute } from 'node:path';
import { parseSize } from '../core/units.ts';

/** How one setting is read. `parse` gives undefined for a bad value; `wanted` says what is allowed. */
export interface Setting<T> {
  readonly parse: (text: string) => T | undefined;
  readonly wanted: string;
  readonly fallback: T;
  /** One line for people. */
  readonly about: string;
}

export function text(fallback: string, about: string): Setting<string> {
  return { parse: (value) => value, wanted: 'a text', fallback, about };
}

/** Like `text`, for passwords and URLs that hold one: its value is never shown. */
export function secret(about: string): Setting<string> & { readonly secret: true } {
  return { ...text('', about), secret: true };
}

export function path(fallback: string, about: string): Setting<string> {
  return {
    parse: (value) => (isAbsolute(value) && !value.includes('\0') ? value : undefined),
    wanted: 'an absolute path',
    fallback,
    about,
  };
}

/** A path, or empty for none. */
export function optionalPath(about: string): Setting<string> {
  return path('', about);
}

export function port(fallback: number, about: string): Setting<number> {
  return integer(fallback, { min: 0, max: 65_535 }, about);
}

export function integer(
  fallback: number,
  { min, max = Number.MAX_SAFE_INTEGER }: { readonly min: number; readonly max?: number },
  about: string,
): Setting<number> {
  const wanted =
    max === Number.MAX_SAFE_INTEGER ? `a whole number of at least ${min}` : `${min} … ${max}`;
  return {
    parse: (value) => {
      const number = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
      return number >= min && number <= max ? number : undefined;
    },
    wanted,
    fallback,
    about,
  };
}

/** Bytes, plain or with a unit: "2147483648", "2G", "512MiB". At least 1. */
export function size(
  fallback: number,
  about: string,
): Setting<number> & { readonly unit: 'bytes' } {
  return {
    parse: (value) => {
      try {
        const bytes = parseSize(value, 'a setting');
        return bytes >= 1 ? bytes : undefined;
      } catch {
        return undefined;
      }
    },
    wanted: 'a size such as 512M, 2GiB or 4096',
    fallback,
    about,
    unit: 'bytes',
  };
}

export function fraction(fallback: number, about: string): Setting<number> {
  return {
    parse: (value) => {
      const number = /^\d{1,9}(?:\.\d{1,9})?$/.test(value) ? Number(value) : Number.NaN;
      return number >= 0 && number <= 1 ? number : undefined;
    },
    wanted: 'a number from 0 to 1',
    fallback,
    about,
  };
}

/** The spellings of Go's ParseBool, which the first builderd took. */
const BOOLEANS = new Map<string, boolean>([
  ...['1', 't', 'true'].map((word) => [word, true] as const),
  ...['0', 'f', 'false'].map((word) => [word, false] as const),
]);

export function flag(fallback: boolean, about: string): Setting<boolean> {
  return {
    parse: (value) => BOOLEANS.get(value.toLowerCase()),
    wanted: 'true or false',
    fallback,
    about,
  };
}

export function oneOf<const W extends string>(
  words: readonly W[],
  fallback: NoInfer<W>,
  about: string,
): Setting<W> {
  return {
    parse: (value) => words.find((word) => word === value),
    wanted: words.join(', '),
    fallback,
    about,
  };
}

/** Items separated by commas; blanks around them are dropped. */
export function list(about: string): Setting<readonly string[]> {
  return {
    parse: (value) => {
      const items = value.split(',').map((item) => item.trim());
      return items.includes('') ? undefined : items;
    },
    wanted: 'items separated by commas, none of them empty',
    fallback: [],
    about,
  };
}

const UNIT_MS = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

/** Go's duration form, in milliseconds: "600s", "15m", "1h30m", "250ms". Never zero. */
export function durationMs(
  fallbackMs: number,
  about: string,
): Setting<number> & { readonly unit: 'ms' } {
  return {
    parse: (value) => {
      const whole = /^(?:\d{1,9}(?:\.\d{1,6})?(?:ms|s|m|h))+$/.test(value);
      if (!whole) return undefined;
      let total = 0;
      for (const [, amount, unit = ''] of value.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
        total += Number(amount) * (UNIT_MS.get(unit) ?? Number.NaN);
      }
      return total > 0 && Number.isSafeInteger(Math.round(total)) ? Math.round(total) : undefined;
    },
    wanted: 'a duration such as 600s, 15m or 1h30m',
    fallback: fallbackMs,
    about,
    unit: 'ms',
  };
}
