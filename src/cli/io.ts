/** What a command may touch of the process; `main` makes the real one. */
export interface Io {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  /** Aborted with a BuilderdError as its reason when the user or the system asks to stop. */
  readonly signal: AbortSignal;
  /** Registers work that must be done even on a hard exit, such as showing the cursor again. */
  atExit(run: () => void): void;
  /**
   * For a service: signals go to `handle` alone from now on, and the exit code is the command's.
   * Absent where no real process stands behind.
   */
  readonly ownSignals?: (handle: (name: ServiceSignal) => void) => void;
}

export type ServiceSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP';

export interface OutputStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}
