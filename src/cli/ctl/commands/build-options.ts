import type { RawRuntime } from '../../runtime-options.ts';

/** Options of `builderctl build` that say what to build; what is not given is left to the server. */
export interface SpecOptions extends RawRuntime {
  readonly format?: string;
  readonly size?: string;
  readonly volumeLabel?: string;
  readonly journal?: true;
  readonly lostFound: boolean;
  readonly guestFiles?: true;
  readonly devices?: 'keep' | 'standard' | 'drop';
  readonly exclude?: readonly string[];
  readonly preserve?: readonly string[];
  readonly removeDocs?: true;
  readonly removeCache?: true;
  readonly sourceDateEpoch?: number;
  readonly platform?: string;
  readonly pull?: 'always' | 'missing' | 'never';
  readonly name?: string;
  readonly label?: readonly string[];
  readonly priority?: number;
  readonly timeout?: string;
}

export interface BuildOptions extends SpecOptions {
  readonly output?: string;
  readonly follow?: true;
  readonly detach?: true;
  readonly cancelOnInterrupt?: true;
  readonly idempotencyKey?: string;
  readonly progress: 'auto' | 'plain' | 'json';
  readonly quiet?: true;
  readonly sourceUsername?: string;
  readonly sourcePasswordFile?: string;
  readonly sourcePasswordStdin?: true;
  readonly sourceTokenFile?: string;
}
