import type { BuildPhase, ProgressListener } from '../../core/progress.ts';

/** Shows the progress of one build until it is stopped. */
export interface ProgressView {
  readonly onProgress: ProgressListener;
  /** Leaves the terminal as it was, with the last state above. A repeat does nothing. */
  stop(): void;
}

export const PHASE_TITLES: Readonly<Record<BuildPhase, string>> = {
  resolve: 'Resolve',
  pull: 'Pull',
  convert: 'Convert',
  write: 'Write',
  verify: 'Verify',
  commit: 'Commit',
};

export const PHASE_DOING: Readonly<Record<BuildPhase, string>> = {
  resolve: 'Resolving the image',
  pull: 'Pulling what is missing',
  convert: 'Converting the layers',
  write: 'Writing the formats',
  verify: 'Verifying',
  commit: 'Publishing',
};

/** `sha256:0123456789ab…` is enough to recognise a blob by. */
export function shortId(id: string): string {
  return id.replace(/^(sha(?:256|512):[0-9a-f]{12})[0-9a-f]+$/, '$1');
}
