import type { BuildId } from '../../../src/core/ids.ts';
import type { TenantRef } from '../../../src/builds/service/caller.ts';
import type { Recorded } from './recorded-sql.ts';

type Slot = 'build' | 'tenant' | 'seq';

/** A recorded statement whose ids are those of the request that replays it. */
export type Step =
  | { readonly kind: 'begin' | 'commit' }
  | {
      readonly kind: 'statement';
      readonly sql: string;
      readonly parameters: readonly ({ readonly slot: Slot } | { readonly value: unknown })[];
    };

/** What a request fills in; `seq` is what a statement of the request gave as `event_seq`. */
export interface Filling {
  readonly build: string;
  readonly tenant: string;
  seq?: unknown;
}

export function stepsOf(
  recorded: readonly Recorded[],
  { build, tenant }: { readonly build: BuildId; readonly tenant: TenantRef },
): Step[] {
  return recorded.map((note) => {
    if (note.kind !== 'statement') return note;
    const { sql, parameters } = note;
    // The one value that a request learns from the database and gives back to it.
    const isEvent = /insert into "events"/.test(sql);
    return {
      kind: note.kind,
      sql,
      parameters: parameters.map((value, at) => {
        if (value === build) return { slot: 'build' };
        if (value === tenant.id) return { slot: 'tenant' };
        return isEvent && at === 1 ? { slot: 'seq' } : { value };
      }),
    };
  });
}

export function fill(step: Step & { readonly kind: 'statement' }, filling: Filling): unknown[] {
  return step.parameters.map((each) => ('slot' in each ? filling[each.slot] : each.value));
}

/** Keeps what a later statement of the same request needs. */
export function learn(rows: readonly object[], filling: Filling): void {
  const [row] = rows;
  const seq: unknown = row === undefined ? undefined : Reflect.get(row, 'event_seq');
  if (seq !== undefined) filling.seq = seq;
}
