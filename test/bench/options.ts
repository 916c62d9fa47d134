import { parseArgs } from 'node:util';

export interface BenchOptions {
  /** One counted round, fixture S only; a check that everything runs. */
  readonly quick: boolean;
  /** Only contestants whose name holds one of these words; all when empty. */
  readonly only: readonly string[];
  readonly fixtures: readonly ('S' | 'L')[];
  readonly rounds: number;
  /** Memory touched beforehand; 0 for none. */
  readonly warmBytes: number;
  /** RESULTS.md is only replaced by a complete run. */
  readonly write: boolean;
}

export const USAGE = `npm run bench -- [options]
  --quick          one round on fixture S, nothing written
  --only WORD      only contestants whose name holds WORD; repeatable; nothing written
  --fixture S|L    only this fixture; nothing written
  --rounds N       counted rounds of what takes less than 20 s (default 5)
  --warm-gib N     GiB of memory to touch beforehand (default: 60 % of what is available)
`;

export function parseOptions(args: readonly string[], availableBytes: number): BenchOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true, default: [] },
      fixture: { type: 'string' },
      rounds: { type: 'string' },
      'warm-gib': { type: 'string' },
    },
  });
  const { quick, only, fixture } = values;
  const rounds = Number(values.rounds ?? (quick ? 1 : 5));
  const warmGib = values['warm-gib'] ?? (quick ? 0 : (availableBytes * 0.6) / 1024 ** 3);
  const warmBytes = Number(warmGib) * 1024 ** 3;
  const isFixture = fixture === undefined || fixture === 'S' || fixture === 'L';
  if (!isFixture || !Number.isInteger(rounds) || rounds < 1 || !(warmBytes >= 0)) {
    throw new Error(`Cannot understand the options\n${USAGE}`);
  }
  return {
    quick,
    only: only.map((word) => word.toLowerCase()),
    fixtures: fixture === undefined ? (quick ? ['S'] : ['S', 'L']) : [fixture],
    rounds,
    warmBytes,
    write: !quick && only.length === 0 && fixture === undefined,
  };
}
