import type { Io } from '../io.ts';

/** What a command of builderctl may touch of the process and its user; `main.ts` makes the real one. */
export interface CtlHost extends Io {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** From the account database or HOME. */
  readonly homeDirectory: string;
  readonly userId: number;
  /** All of standard input, refused beyond `maxBytes`. */
  readStdin(maxBytes: number): Promise<string>;
  writeBytes(bytes: Uint8Array): Promise<void>;
  readonly nowMs: () => number;
  readonly random: () => number;
}
