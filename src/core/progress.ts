export type BuildPhase = 'resolve' | 'pull' | 'convert' | 'write' | 'verify' | 'commit';

/** What a build tells while it runs; rendering (terminal, lines, JSON) is the caller's business. */
export type ProgressEvent =
  | {
      readonly kind: 'phase';
      readonly phase: BuildPhase;
      readonly state: 'started' | 'done';
      readonly detail?: string;
    }
  /** One blob or layer: cumulative bytes. `totalBytes` is absent while unknown. */
  | {
      readonly kind: 'bytes';
      readonly phase: BuildPhase;
      readonly id: string;
      readonly doneBytes: number;
      readonly totalBytes?: number;
      readonly state: 'running' | 'done' | 'reused';
    }
  | { readonly kind: 'notice'; readonly level: 'info' | 'warning'; readonly message: string };

export type ProgressListener = (event: ProgressEvent) => void;
