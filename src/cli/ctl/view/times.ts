import { formatDuration } from '../../../core/units.ts';

/** `2026-11-24 00:12:10Z`: sorts, and means the same everywhere. */
export function shortTime(time: string | undefined): string | undefined {
  return time === undefined
    ? undefined
    : new Date(time).toISOString().replace(/T(.{8}).*$/, ' $1Z');
}

/** How long something took; undefined while it has not ended. */
export function between(start: string | undefined, end: string | undefined): string | undefined {
  if (start === undefined || end === undefined) return undefined;
  return formatDuration(Math.max(0, Date.parse(end) - Date.parse(start)));
}
