import type { ByteString } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { InodeKind } from '../tree.ts';
import type { FilterSpec } from './filter-spec.ts';
import { MatchBudget } from './match-budget.ts';
import { matchesName, type NamePattern } from './name-pattern.ts';
import { ANY_DEPTH, parsePathPattern } from './path-pattern.ts';
import { CACHES, DOCUMENTATION, type Preset } from './presets.ts';

export const MAX_PATTERNS = 256;
/** Of all patterns of a request together. */
export const MAX_ALL_BYTES = 32 * 1024;

/** What a match means. Those up to KEEP hold for everything below the name, too. */
const EXCLUDE = 1;
const PRESERVE = 2;
const PRESET = 4;
const KEEP = 8;
const INHERITED = EXCLUDE | PRESERVE | PRESET | KEEP;
const KEEP_DIRECTORY = 16;
const KEEP_SYMLINK = 32;

/** What sorting, naming and looking up one place of a state takes, in looks at a place. */
const STATE_STEPS = 16;

/** A part of a pattern; the next part of the same pattern has the next number. */
interface Place {
  readonly part: NamePattern | typeof ANY_DEPTH;
  readonly isLast: boolean;
  readonly meaning: number;
  /** Index in `#texts`; -1 for a preset's. */
  readonly pattern: number;
}

/** What the patterns say about one directory, and where in them those below it go on. */
export interface FilterState {
  readonly meaning: number;
  readonly places: readonly number[];
}

/**
 * All patterns of a build as one automaton over path names: going down one name costs at most a
 * look at each place that is still open, however many `**` there are. Equal states are one object.
 */
export class TreeFilter {
  readonly root: FilterState;
  readonly #places: Place[] = [];
  readonly #texts: string[] = [];
  readonly #matched = new Set<number>();
  readonly #states = new Map<string, FilterState>();
  readonly #budget: MatchBudget;

  /** Throws `usage.invalid` when the patterns are too many, too long, or none. */
  constructor(spec: FilterSpec, budget = new MatchBudget()) {
    this.#budget = budget;
    checkSizes(spec);
    const starts = [
      ...spec.exclude.map((text) => this.#add(text, EXCLUDE, true)),
      ...spec.preserve.map((text) => this.#add(text, PRESERVE, true)),
      ...(spec.removeDocs ? this.#addPreset(DOCUMENTATION) : []),
      ...(spec.removeCache ? this.#addPreset(CACHES) : []),
    ];
    this.root = this.#state(0, this.#open(starts));
  }

  /** Steps spent so far. */
  get steps(): number {
    return this.#budget.steps;
  }

  /** Patterns of the caller that no name has matched. */
  unmatched(): string[] {
    return this.#texts.filter((_text, index) => !this.#matched.has(index));
  }

  /** The state of a directory `name` in a directory with this state. */
  enter(state: FilterState, name: ByteString): FilterState {
    const next: number[] = [];
    const meaning = (state.meaning & INHERITED) | this.#match(state, name, next);
    return this.#state(meaning, this.#open(next));
  }

  /** Whether `name`, which is no directory, is left out of a directory with this state. */
  drops(state: FilterState, name: ByteString, kind: InodeKind): boolean {
    return isDropped((state.meaning & INHERITED) | this.#match(state, name), kind);
  }

  /** Whether a directory is left out unless something below it stays. */
  dropsDirectory(state: FilterState): boolean {
    return isDropped(state.meaning, 'dir');
  }

  #add(text: string, meaning: number, isCallers: boolean): number {
    const { parts } = parsePathPattern(text);
    const pattern = isCallers ? this.#texts.push(text) - 1 : -1;
    const start = this.#places.length;
    for (const [index, part] of parts.entries()) {
      this.#places.push({ part, isLast: index === parts.length - 1, meaning, pattern });
    }
    return start;
  }

  #addPreset({ exclude, keep, keepDirectories, keepSymlinks }: Preset): number[] {
    return [
      ...exclude.map((text) => this.#add(text, PRESET, false)),
      ...keep.map((text) => this.#add(text, KEEP, false)),
      ...keepDirectories.map((text) => this.#add(text, KEEP_DIRECTORY, false)),
      ...keepSymlinks.map((text) => this.#add(text, KEEP_SYMLINK, false)),
    ];
  }

  /** Meanings of the patterns that end with this name; puts the places after it into `next`. */
  #match({ places }: FilterState, name: ByteString, next?: number[]): number {
    let meaning = 0;
    this.#budget.spend(places.length);
    for (const number of places) {
      const place = this.#places[number];
      if (place === undefined) continue;
      const { part } = place;
      if (part === ANY_DEPTH) next?.push(number);
      else if (!matchesName(part, name, this.#budget)) continue;
      else if (!place.isLast) next?.push(number + 1);
      if (!place.isLast) continue;
      meaning |= place.meaning;
      this.#matched.add(place.pattern);
    }
    return meaning;
  }

  /** With the places that can be reached without a name: those after a `**` that matches none. */
  #open(numbers: readonly number[]): number[] {
    const open = new Set<number>();
    for (const number of numbers) {
      open.add(number);
      const place = this.#places[number];
      if (place?.part === ANY_DEPTH && !place.isLast) open.add(number + 1);
    }
    return [...open].sort((a, b) => a - b);
  }

  #state(meaning: number, places: readonly number[]): FilterState {
    this.#budget.spend(places.length * STATE_STEPS);
    const key = `${meaning}:${places.join(',')}`;
    let state = this.#states.get(key);
    if (state === undefined) {
      this.#budget.remember(places.length + 1);
      state = { meaning, places };
      this.#states.set(key, state);
    }
    return state;
  }
}

/** The caller's word before the presets', and in each what keeps before what leaves out. */
function isDropped(meaning: number, kind: InodeKind): boolean {
  if ((meaning & PRESERVE) !== 0) return false;
  if ((meaning & EXCLUDE) !== 0) return true;
  if ((meaning & PRESET) === 0 || (meaning & KEEP) !== 0) return false;
  if (kind === 'dir') return (meaning & KEEP_DIRECTORY) === 0;
  return kind !== 'symlink' || (meaning & KEEP_SYMLINK) === 0;
}

function checkSizes({ exclude, preserve }: FilterSpec): void {
  for (const patterns of [exclude, preserve]) {
    if (patterns.length > MAX_PATTERNS)
      throw tooMany(`${patterns.length} are given, at most ${MAX_PATTERNS} are possible`);
  }
  const bytes = [...exclude, ...preserve].reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  if (bytes > MAX_ALL_BYTES)
    throw tooMany(`together they have ${bytes} bytes, at most ${MAX_ALL_BYTES} are possible`);
}

function tooMany(fact: string): BuilderdError {
  return new BuilderdError('usage.invalid', `Cannot use the patterns: ${fact}`);
}
