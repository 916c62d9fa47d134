import type { BuildPhase, ProgressEvent } from '../../core/progress.ts';

export interface Item {
  readonly id: string;
  doneBytes: number;
  totalBytes: number | undefined;
  state: 'running' | 'done' | 'reused';
}

export interface PhaseState {
  readonly phase: BuildPhase;
  readonly startedMs: number;
  doneMs: number | undefined;
  detail: string | undefined;
  readonly items: Map<string, Item>;
}

/** What a view has to show: phases in order of their start, with their blobs or layers. */
export interface ProgressState {
  readonly phases: Map<BuildPhase, PhaseState>;
}

export function emptyProgress(): ProgressState {
  return { phases: new Map() };
}

/** Folds one event into the state. Events of a phase that nobody started start it. */
export function applyProgress(state: ProgressState, event: ProgressEvent, nowMs: number): void {
  if (event.kind === 'notice') return;
  const phase = ensurePhase(state, event.phase, nowMs);
  if (event.kind === 'phase') {
    if (event.detail !== undefined) phase.detail = event.detail;
    phase.doneMs = event.state === 'done' ? nowMs : undefined;
    return;
  }
  const item = phase.items.get(event.id);
  if (item === undefined) {
    phase.items.set(event.id, {
      id: event.id,
      doneBytes: event.doneBytes,
      totalBytes: event.totalBytes,
      state: event.state,
    });
    return;
  }
  item.doneBytes = event.doneBytes;
  item.totalBytes = event.totalBytes ?? item.totalBytes;
  item.state = event.state;
}

function ensurePhase(state: ProgressState, phase: BuildPhase, nowMs: number): PhaseState {
  const known = state.phases.get(phase);
  if (known !== undefined) return known;
  const fresh: PhaseState = {
    phase,
    startedMs: nowMs,
    doneMs: undefined,
    detail: undefined,
    items: new Map(),
  };
  state.phases.set(phase, fresh);
  return fresh;
}

export interface PhaseTotals {
  readonly doneBytes: number;
  /** Undefined while the size of any item is unknown. */
  readonly totalBytes: number | undefined;
  /** Bytes that this run moved itself; reused items cost nothing. */
  readonly movedBytes: number;
  readonly doneItems: number;
  readonly items: number;
}

export function phaseTotals(phase: PhaseState): PhaseTotals {
  let doneBytes = 0;
  let movedBytes = 0;
  let totalBytes: number | undefined = 0;
  let doneItems = 0;
  for (const item of phase.items.values()) {
    const size = item.totalBytes ?? (item.state === 'running' ? undefined : item.doneBytes);
    const done = item.state === 'running' ? item.doneBytes : (size ?? item.doneBytes);
    doneBytes += done;
    if (item.state !== 'reused') movedBytes += done;
    if (item.state !== 'running') doneItems += 1;
    totalBytes = totalBytes === undefined || size === undefined ? undefined : totalBytes + size;
  }
  return { doneBytes, totalBytes, movedBytes, doneItems, items: phase.items.size };
}
