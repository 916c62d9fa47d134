import { relative, sep } from 'node:path';

interface Counts {
  readonly totalLineCount: number;
  readonly coveredLineCount: number;
  readonly totalBranchCount: number;
  readonly coveredBranchCount: number;
}

export interface CoverageSummary {
  readonly workingDirectory: string;
  readonly files: readonly ({ readonly path: string } & Counts)[];
  readonly totals: Counts;
}

/** One line a room instead of one a file: a table that people read. */
export function formatCoverage(summary: CoverageSummary): string {
  const rooms = Map.groupBy(summary.files, ({ path }) =>
    relative(summary.workingDirectory, path).split(sep).slice(0, 2).join('/'),
  );
  const rows = [...rooms]
    .toSorted(([left], [right]) => (left < right ? -1 : 1))
    .map(([room, files]) => formatRow(room, files));
  return [
    'coverage by unit tests        lines  branches',
    ...rows,
    formatRow('all', [summary.totals]),
  ].join('\n');
}

function formatRow(name: string, files: readonly Counts[]): string {
  const sum = (pick: (counts: Counts) => number): number =>
    files.reduce((total, each) => total + pick(each), 0);
  const lines = percent(
    sum((each) => each.coveredLineCount),
    sum((each) => each.totalLineCount),
  );
  const branches = percent(
    sum((each) => each.coveredBranchCount),
    sum((each) => each.totalBranchCount),
  );
  return `  ${name.padEnd(26)} ${lines.padStart(6)}  ${branches.padStart(8)}`;
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '–' : `${((100 * part) / whole).toFixed(1)} %`;
}
