import type { Compilable, CompiledQuery, Kysely } from 'kysely';
import type { Db, UnreadRow } from './database.ts';
import type { DialectName } from './dialect-name.ts';
import type { Schema } from './schema.ts';

/** Stands for a value until the query runs. */
class Parameter {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/**
 * A query of a hot path, built and compiled once for each dialect: building it anew costs more than
 * SQLite needs to answer it. `build` names a value with `value(name)` wherever one is compared.
 */
export class PreparedQuery<V extends Readonly<Record<string, string | number>>> {
  readonly #build: Build<V>;
  readonly #compiled = new Map<DialectName, CompiledQuery<UnreadRow>>();

  constructor(build: Build<V>) {
    this.#build = build;
  }

  async run(db: Db, values: V): Promise<readonly UnreadRow[]> {
    const compiled = this.#compiledFor(db);
    const parameters = compiled.parameters.map((each) =>
      each instanceof Parameter ? values[each.name] : each,
    );
    const found = db.readAtOnce?.(compiled.sql, parameters);
    if (found !== undefined) return found;
    const { rows } = await db.k.executeQuery<UnreadRow>({ ...compiled, parameters });
    return rows;
  }

  #compiledFor({ dialect, k }: Db): CompiledQuery<UnreadRow> {
    const known = this.#compiled.get(dialect);
    if (known !== undefined) return known;
    // Kysely passes on what is no expression as it is: the driver never sees a placeholder.
    const value: Value<V> = (name) => new Parameter(name) as unknown as V[typeof name];
    const compiled = this.#build(k, value).compile();
    this.#compiled.set(dialect, compiled);
    return compiled;
  }
}

type Value<V> = <N extends keyof V & string>(name: N) => V[N];
type Build<V> = (k: Kysely<Schema>, value: Value<V>) => Compilable<UnreadRow>;
