import type { Kind } from './contestant.ts';
import type { Outcome } from './race.ts';
import { summarise } from './statistics.ts';
import { medianWallMs, megabytes, seconds } from './table.ts';

export interface Verdict {
  readonly target: string;
  readonly reached: string;
  readonly met: boolean | undefined;
}

const FIRST_MARK = 1.25;
const GOAL = 0.7;
const PEER_FACTOR = 10;
const MEMORY_BYTES = 200e6;
const CROWD_FACTOR = 1.5;
const SIZE_FACTOR = 1.02;

export function limitVerdicts(fixture: string, outcomes: readonly Outcome[]): Verdict[] {
  const limitMs = fastest(outcomes, 'limit', false)?.ms;
  return (['ext4', 'tar'] as const).flatMap((kind) => {
    const ours = fastest(outcomes, kind, true);
    const ratio = limitMs === undefined || ours === undefined ? undefined : ours.ms / limitMs;
    return [FIRST_MARK, GOAL].map((mark) =>
      verdict(
        `${fixture} → ${kind} in at most ${mark} × the limit${mark === GOAL ? ' (goal)' : ''}`,
        ratio,
        (value) => value <= mark,
        (value) => `${value.toFixed(2)} ×`,
      ),
    );
  });
}

/** The usual way: unpack with one tool, then pack the tree with another. */
export function pairVerdicts(fixture: string, outcomes: readonly Outcome[]): Verdict[] {
  const unpack = fastest(outcomes, 'unpack', false);
  return (['ext4', 'tar'] as const).flatMap((kind) => {
    const ours = fastest(outcomes, kind, true);
    const packKind: Kind = kind === 'ext4' ? 'tree to ext4' : 'tree to tar';
    const packers = outcomes.filter(
      ({ contestant }) => contestant.kind === packKind && !contestant.name.includes('(root)'),
    );
    const pack = fastest(packers, packKind, false);
    const pairMs = unpack === undefined || pack === undefined ? undefined : unpack.ms + pack.ms;
    const pairName = `${unpack?.name ?? '?'} + ${pack?.name ?? '?'}`;
    const way = fastestWay(outcomes, kind, unpack, packKind);
    return [
      factorVerdict(
        `${fixture} → ${kind} at least ${PEER_FACTOR} × as fast as the fastest pair of peers`,
        ours,
        pairMs,
        pairName,
      ),
      {
        ...factorVerdict(
          `${fixture} → ${kind} against the fastest way of any kind (no target)`,
          ours,
          way?.ms,
          way?.name ?? '?',
        ),
        met: undefined,
      },
    ];
  });
}

export function memoryVerdicts(fixture: string, outcomes: readonly Outcome[]): Verdict[] {
  const peaks = outcomes
    .filter(({ contestant }) => contestant.ours && contestant.kind !== 'cold ext4')
    .flatMap(({ samples }) => samples.map((sample) => sample.peakRssBytes));
  return [
    verdict(
      `${fixture}: at most ${megabytes(MEMORY_BYTES)} of memory, growth of containerd included`,
      summarise(peaks)?.max,
      (value) => value <= MEMORY_BYTES,
      megabytes,
    ),
  ];
}

export function coldVerdicts(fixture: string, outcomes: readonly Outcome[]): Verdict[] {
  const ours = fastest(outcomes, 'cold ext4', true);
  const peer = fastest(outcomes, 'cold pull', false);
  const ratio = ours === undefined || peer === undefined ? undefined : ours.ms / peer.ms;
  return [
    verdict(
      `${fixture}: cold pull + ext4 faster than ctr image pull alone`,
      ratio,
      (value) => value < 1,
      (value) => `${value.toFixed(2)} × its time`,
    ),
  ];
}

export function crowdVerdicts(crowded: readonly Outcome[], spread: readonly Outcome[]): Verdict[] {
  const inOne = fastest(crowded, 'ext4', true);
  const inMany = fastest(spread, 'ext4', true);
  const ratio = inOne === undefined || inMany === undefined ? undefined : inOne.ms / inMany.ms;
  return [
    verdict(
      `20,000 files in one directory: at most ${CROWD_FACTOR} × the same files in 400`,
      ratio,
      (value) => value <= CROWD_FACTOR,
      (value) => `${value.toFixed(2)} ×`,
    ),
  ];
}

export function sizeVerdicts(
  fixture: string,
  outcomes: readonly Outcome[],
  contentBytes: number,
): Verdict[] {
  const disk = outcomes.find(({ contestant: { kind, ours } }) => kind === 'ext4' && ours);
  const ratio = disk?.artifactBytes === undefined ? undefined : disk.artifactBytes / contentBytes;
  return [
    verdict(
      `${fixture}: ext4 of at most ${SIZE_FACTOR} × its content (${megabytes(contentBytes)})`,
      ratio,
      (value) => value <= SIZE_FACTOR,
      (value) => `${value.toFixed(4)} ×`,
    ),
  ];
}

export function renderVerdicts(verdicts: readonly Verdict[]): string {
  return [
    '| Target | Reached | |',
    '|---|---|---|',
    ...verdicts.map(({ target, reached, met }) => `| ${target} | ${reached} | ${markOf(met)} |`),
  ].join('\n');
}

function markOf(met: boolean | undefined): string {
  if (met === undefined) return '–';
  return met ? 'met' : '**missed**';
}

interface Best {
  readonly name: string;
  readonly ms: number;
}

function fastest(outcomes: readonly Outcome[], kind: Kind, ours: boolean): Best | undefined {
  return outcomes
    .filter(({ contestant }) => contestant.kind === kind && contestant.ours === ours)
    .flatMap((outcome) => {
      const ms = medianWallMs(outcome);
      return ms === undefined ? [] : [{ name: outcome.contestant.name, ms }];
    })
    .toSorted((a, b) => a.ms - b.ms)
    .at(0);
}

function fastestWay(
  outcomes: readonly Outcome[],
  kind: Kind,
  unpack: Best | undefined,
  packKind: Kind,
): Best | undefined {
  const pack = fastest(outcomes, packKind, false);
  const pair =
    unpack === undefined || pack === undefined
      ? []
      : [{ name: `${unpack.name} + ${pack.name}`, ms: unpack.ms + pack.ms }];
  const direct = fastest(outcomes, kind, false);
  return [...pair, ...(direct === undefined ? [] : [direct])].toSorted((a, b) => a.ms - b.ms).at(0);
}

function factorVerdict(
  target: string,
  ours: Best | undefined,
  peerMs: number | undefined,
  peerName: string,
): Verdict {
  const factor = ours === undefined || peerMs === undefined ? undefined : peerMs / ours.ms;
  const shown = peerMs === undefined ? '' : ` (${peerName}: ${seconds(peerMs)} s)`;
  return verdict(
    target,
    factor,
    (value) => value >= PEER_FACTOR,
    (value) => `${value.toFixed(1)} ×${shown}`,
  );
}

export function verdict(
  target: string,
  value: number | undefined,
  isMet: (value: number) => boolean,
  show: (value: number) => string,
): Verdict {
  if (value === undefined) return { target, reached: 'not measured', met: undefined };
  return { target, reached: show(value), met: isMet(value) };
}
