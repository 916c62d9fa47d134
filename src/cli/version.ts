import { readFileSync } from 'node:fs';

let known: string | undefined;

/** The version in package.json, two directories above this file. */
export function builderdVersion(): string {
  known ??= readVersion();
  return known;
}

function readVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  const parsed: unknown = JSON.parse(readFileSync(file, 'utf8'));
  if (typeof parsed !== 'object' || parsed === null || !('version' in parsed)) return 'unknown';
  return String(parsed.version);
}
