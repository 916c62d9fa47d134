import { asBuilderdError, type BuilderdError } from '../core/errors.ts';

export interface ParsedRows<R, T> {
  readonly parsed: readonly T[];
  readonly unreadable: readonly { readonly row: R; readonly reason: BuilderdError }[];
}

/** One row that nobody can read must not keep anyone from the others: it is handed back beside them. */
export function parseEach<R, T>(rows: readonly R[], parse: (row: R) => T): ParsedRows<R, T> {
  const parsed: T[] = [];
  const unreadable: { row: R; reason: BuilderdError }[] = [];
  for (const row of rows) {
    try {
      parsed.push(parse(row));
    } catch (reason) {
      unreadable.push({ row, reason: asBuilderdError(reason, 'read a row') });
    }
  }
  return { parsed, unreadable };
}
