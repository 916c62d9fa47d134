import { oneLine } from '../../print-fault.ts';

/** Columns as wide as their cells, two blanks between; every cell is foreign text until it passed here. */
export function table(
  headings: readonly string[],
  rows: readonly (readonly (string | number | undefined)[])[],
): string {
  const cells = [headings, ...rows].map((row) => row.map((cell) => shown(cell)));
  const widths = headings.map((_, column) =>
    Math.max(...cells.map((row) => (row[column] ?? '').length)),
  );
  return cells
    .map(
      (row) =>
        `${row
          .map((cell, at) => cell.padEnd(widths[at] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** `Name:  value` lines; absent values are left out. */
export function facts(pairs: readonly (readonly [string, string | number | undefined])[]): string {
  const known = pairs.filter(([, value]) => value !== undefined && value !== '');
  const width = Math.max(0, ...known.map(([name]) => name.length)) + 2;
  return known.map(([name, value]) => `${`${name}:`.padEnd(width)}${shown(value)}\n`).join('');
}

const MAX_CELL = 200;

function shown(cell: string | number | undefined): string {
  if (cell === undefined || cell === '') return '-';
  const text = oneLine(String(cell).slice(0, MAX_CELL * 2));
  return text.length > MAX_CELL ? `${text.slice(0, MAX_CELL - 1)}…` : text;
}
