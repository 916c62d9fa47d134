/** The states that a build passes through; on the wire `BUILD_STATE_` and the upper-case word. */
export const BUILD_STATES = [
  'pending',
  'pulling',
  'extracting',
  'building',
  'optimizing',
  'completed',
  'failed',
  'cancelled',
  'cleaning',
] as const;
export type BuildState = (typeof BUILD_STATES)[number];

/**
 * Every legal move. `pulling` is entered by a claim; `extracting` while layers are merged;
 * `building` while steps run or formats are written; `optimizing` while artifacts are hashed,
 * synced and committed; `cleaning` while a build that ended early is undone. Back to `pending`:
 * a lost or failed attempt that is tried again.
 */
export const NEXT_STATES = {
  pending: ['pulling', 'cancelled', 'failed'],
  pulling: ['extracting', 'cleaning', 'failed', 'cancelled', 'pending'],
  extracting: ['building', 'cleaning', 'failed', 'cancelled', 'pending'],
  building: ['optimizing', 'cleaning', 'failed', 'cancelled', 'pending'],
  optimizing: ['completed', 'cleaning', 'failed', 'cancelled', 'pending'],
  cleaning: ['failed', 'cancelled', 'pending'],
  completed: [],
  failed: [],
  cancelled: [],
} as const satisfies Record<BuildState, readonly BuildState[]>;

/** States in which an executor holds the build. */
export const ACTIVE_STATES = [
  'pulling',
  'extracting',
  'building',
  'optimizing',
  'cleaning',
] as const satisfies readonly BuildState[];

export type ActiveState = (typeof ACTIVE_STATES)[number];
export type TerminalState = 'completed' | 'failed' | 'cancelled';

export function isTerminal(state: BuildState): state is TerminalState {
  return state === 'completed' || state === 'failed' || state === 'cancelled';
}

export function parseBuildState(raw: string): BuildState | undefined {
  return BUILD_STATES.find((state) => state === raw);
}
