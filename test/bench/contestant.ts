import type { Command } from './measure.ts';

/** What a contestant makes of an image; figures are only compared within one kind. */
export type Kind =
  | 'limit'
  | 'ext4'
  | 'tar'
  | 'ext4+tar'
  | 'unpack'
  | 'tree to ext4'
  | 'tree to tar'
  | 'cold ext4'
  | 'cold pull'
  | 'other';

export interface Contestant {
  /** Unique within a fixture; what `--only` looks at. */
  readonly name: string;
  readonly kind: Kind;
  readonly fixture: string;
  readonly ours: boolean;
  /** Untimed: makes the state that every run starts from. Gives what is timed. */
  prepare(): Promise<readonly Command[]>;
  /** Processes that work for it without being its children; asked after `prepare`. */
  daemons?(): readonly number[];
  /** Untimed, after a run: size of what came out. Throws when it is not what it should be. */
  inspect?(): Promise<number>;
  /** Untimed: removes what the run made, also after a failure. */
  cleanup(): Promise<void>;
}
