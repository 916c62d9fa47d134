export type VersionParts = readonly [major: number, minor: number, patch: number];

/** The first `1.2.3` or `1.2` of a text such as "runc version 1.1.5+ds1"; undefined if none. */
export function parseVersion(text: string): VersionParts | undefined {
  const match = /(?:^|[^\d.])v?(\d{1,5})\.(\d{1,5})(?:\.(\d{1,5}))?/.exec(text.slice(0, 4096));
  if (match === null) return undefined;
  return [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)];
}

export function compareVersions(a: VersionParts, b: VersionParts): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}

/**
 * Floors are one per release line. A line newer than all of them is above; an older line that has
 * none got no fix.
 */
export function meetsFloor(version: VersionParts, floors: readonly VersionParts[]): boolean {
  const line = floors.find(([major, minor]) => major === version[0] && minor === version[1]);
  if (line !== undefined) return compareVersions(version, line) >= 0;
  return floors.every((floor) => compareVersions(version, floor) > 0);
}

export function formatVersion(version: VersionParts): string {
  return version.join('.');
}

/** Advisories seen up to June 2026 (security.md section 10). */
export const FLOORS = {
  containerd: [
    [2, 3, 2],
    [2, 2, 5],
    [2, 1, 9],
    [1, 7, 33],
  ],
  runc: [
    [1, 5, 0],
    [1, 4, 3],
    [1, 3, 6],
  ],
  git: [[2, 50, 1]],
} as const satisfies Record<string, readonly VersionParts[]>;
