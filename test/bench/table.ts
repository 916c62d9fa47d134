import type { Kind } from './contestant.ts';
import type { Outcome } from './race.ts';
import { summarise } from './statistics.ts';

const KIND_ORDER: readonly Kind[] = [
  ...(['limit', 'ext4', 'tar', 'ext4+tar', 'unpack', 'tree to ext4', 'tree to tar'] as const),
  ...(['cold ext4', 'cold pull', 'other'] as const),
];

/** One Markdown table: everybody on one fixture, beside the limit of the same run. */
export function renderTable(outcomes: readonly Outcome[]): string {
  const limitMs = medianWallMs(outcomes.find(({ contestant }) => contestant.kind === 'limit'));
  const rows = outcomes
    .toSorted(
      (a, b) => KIND_ORDER.indexOf(a.contestant.kind) - KIND_ORDER.indexOf(b.contestant.kind),
    )
    .map((outcome) => row(outcome, limitMs));
  return [
    '| What | Runs | Wall, median (min–max) | × limit | CPU | Peak memory | Output |',
    '|---|--:|--:|--:|--:|--:|--:|',
    ...rows,
  ].join('\n');
}

export function medianWallMs(outcome: Outcome | undefined): number | undefined {
  return summarise(outcome?.samples.map((sample) => sample.wallMs) ?? [])?.median;
}

function row({ contestant, samples, artifactBytes, fault }: Outcome, limitMs?: number): string {
  const name = contestant.ours ? `**${contestant.name}**` : contestant.name;
  const wall = summarise(samples.map((sample) => sample.wallMs));
  const cpu = summarise(samples.map((sample) => sample.cpuMs));
  const memory = summarise(samples.map((sample) => sample.peakRssBytes));
  if (wall === undefined || cpu === undefined || memory === undefined) {
    // The reason went to standard error; it names paths of the machine.
    return `| ${name} | 0 | ${fault === undefined ? 'not run' : 'failed'} | | | | |`;
  }
  const spread = samples.length > 1 ? ` (${seconds(wall.min)}–${seconds(wall.max)})` : '';
  return [
    '',
    name,
    samples.length,
    `${seconds(wall.median)} s${spread}`,
    limitMs === undefined ? '' : (wall.median / limitMs).toFixed(2),
    `${seconds(cpu.median)} s`,
    megabytes(memory.max),
    artifactBytes === undefined ? '' : megabytes(artifactBytes),
    '',
  ]
    .join(' | ')
    .trim();
}

export function seconds(ms: number): string {
  return (ms / 1000).toFixed(ms < 9_950 ? 2 : 1);
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
