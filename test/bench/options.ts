import { parseArgs } from 'node:util';

export interface BenchOptions {
  readonly parts: readonly ('images' | 'service')[];
  /** One counted round, fixture S only; a check that everything runs. */
  readonly quick: boolean;
  /** Only contestants whose name holds one of these words; all when empty. */
  readonly only: readonly string[];
  readonly fixtures: readonly ('S' | 'L')[];
  readonly rounds: number;
  /** Memory touched beforehand; 0 for none. */
  readonly warmBytes: number;
  /** A file of results is only replaced by a complete run of its part. */
  readonly write: boolean;
}

export const USAGE = `npm run bench -- [options]
  --service        only the service; without it, images and the service
  --quick          one round on fixture S, nothing written
  --only WORD      only contestants whose name holds WORD, and no service; repeatable; nothing written
  --fixture S|L    only this fixture, and no service; nothing written
  --rounds N       counted rounds of what takes less than 20 s (default 5)
  --warm-gib N     GiB of memory to touch beforehand (default: 60 % of what is available)
`;

export function parseOptions(args: readonly string[], availableBytes: number): BenchOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      service: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true, default: [] },
      fixture: { type: 'string' },
      rounds: { type: 'string' },
      'warm-gib': { type: 'string' },
    },
  });
  const { quick, only, fixture, service } = values;
  const isNarrow = only.length > 0 || fixture !== undefined;
  const rounds = Number(values.rounds ?? (quick ? 1 : 5));
  const warmGib = values['warm-gib'] ?? (quick ? 0 : (availableBytes * 0.6) / 1024 ** 3);
  const warmBytes = Number(warmGib) * 1024 ** 3;
  const isFixture = fixture === undefined || fixture === 'S' || fixture === 'L';
  if (
    (service && isNarrow) ||
    !isFixture ||
    !Number.isInteger(rounds) ||
    rounds < 1 ||
    !(warmBytes >= 0)
  ) {
    throw new Error(`Cannot understand the options\n${USAGE}`);
  }
  return {
    parts: service ? ['service'] : isNarrow ? ['images'] : ['images', 'service'],
    quick,
    only: only.map((word) => word.toLowerCase()),
    fixtures: fixture === undefined ? (quick ? ['S'] : ['S', 'L']) : [fixture],
    rounds,
    warmBytes,
    write: !quick && !isNarrow,
  };
}
