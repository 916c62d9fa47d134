import '../../contrib/dev/require-node.ts';
import { readFileSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../src/core/errors.ts';
import { runProgram } from '../../contrib/dev/run-program.ts';
import { contentSize } from './content-size.ts';
import type { Contestant } from './contestant.ts';
import {
  countLayers,
  crowdedFixture,
  type Fixture,
  largeFixture,
  smallFixture,
} from './fixtures.ts';
import { describeMachine } from './machine.ts';
import { type BenchOptions, parseOptions } from './options.ts';
import { builderdCold, builderdToExt4, limitAndOurs } from './ours.ts';
import { imagePeers } from './peers.ts';
import { type Outcome, race } from './race.ts';
import { serviceBench } from './service/service-bench.ts';
import { openStage, type Stage, stock } from './stage.ts';
import { megabytes, renderTable } from './table.ts';
import {
  coldVerdicts,
  crowdVerdicts,
  limitVerdicts,
  memoryVerdicts,
  pairVerdicts,
  renderVerdicts,
  sizeVerdicts,
  type Verdict,
} from './targets.ts';
import { mkfsFromTree, type ReadyTree, treePeers } from './tree-peers.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const CROWD_FILES = 20_000;
const SPREAD_DIRECTORIES = 400;

const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => stop.abort(new Error(`stopped by ${name}`)));
}
const options = parseOptions(process.argv.slice(2), availableBytes());
try {
  for (const part of options.parts) {
    const run = part === 'images' ? benchImages : benchService;
    process.exitCode = Math.max(Number(process.exitCode ?? 0), await run(options, stop.signal));
  }
} catch (reason) {
  if (!stop.signal.aborted) throw reason;
  say(`${messageOf(stop.signal.reason)}; everything that was started is gone, nothing was written`);
  process.exitCode = 130;
}

interface Section {
  readonly title: string;
  readonly outcomes: readonly Outcome[];
  readonly verdicts: readonly Verdict[];
}

/** Throws when something does not run; targets may be missed. */
async function benchService({ quick, write }: BenchOptions, signal: AbortSignal): Promise<number> {
  const report = await serviceBench({ quick, signal, say });
  console.log(report);
  if (write) await writeFile(join(HERE, 'SERVICE-RESULTS.md'), report);
  return 0;
}

/** 0: everything ran (targets may be missed); 1: something of ours failed. */
async function benchImages(options: BenchOptions, signal: AbortSignal): Promise<number> {
  say('making the fixtures, if they are not in the cache');
  const fixtures: Fixture[] = [];
  if (options.fixtures.includes('S')) fixtures.push(await smallFixture(signal));
  if (options.fixtures.includes('L')) fixtures.push(await largeFixture(signal));
  if (options.warmBytes > 0) await warmMemory(options.warmBytes, signal);
  await using stage = await openStage(signal);
  const sections: Section[] = [];
  for (const fixture of fixtures) sections.push(await raceFixture(stage, fixture, options));
  if (!options.quick) sections.push(await raceCrowds(stage, options));
  const report = await renderReport(stage, sections, options);
  console.log(report);
  if (options.write) await writeFile(join(HERE, 'RESULTS.md'), report);
  const failed = sections
    .flatMap((section) => section.outcomes)
    .filter(({ contestant, fault }) => fault !== undefined && contestant.ours);
  for (const { contestant, fault } of failed) say(`failed: ${contestant.name}: ${fault}`);
  return failed.length > 0 ? 1 : 0;
}

async function raceFixture(
  stage: Stage,
  fixture: Fixture,
  options: BenchOptions,
): Promise<Section> {
  say(`fixture ${fixture.name}: stocking the registry and containerd, unpacking a tree`);
  await stock(stage, fixture);
  for (const blob of fixture.layerBlobs) await readFile(blob);
  const count = await countLayers(fixture, stage.signal);
  await using tree = await unpackTree(stage, fixture);
  const contestants = [
    ...limitAndOurs(stage, fixture),
    ...imagePeers(stage, fixture),
    ...treePeers(stage, tree),
    builderdCold(stage, fixture),
  ];
  const outcomes = await race(stage, chosen(contestants, options), {
    rounds: options.rounds,
    warmUp: true,
    onProgress: say,
  });
  const { name } = fixture;
  const isLarge = name === 'L';
  return {
    title: `Fixture ${name}: ${fixture.about}; ${fixture.layerBlobs.length} layers, ${count.entries.toLocaleString('en')} entries, ${megabytes(count.tarBytes)} of tar, ${megabytes(fixture.blobBytes)} of gzip`,
    outcomes,
    verdicts: [
      ...(isLarge ? limitVerdicts(name, outcomes) : []),
      ...pairVerdicts(name, outcomes),
      ...(isLarge ? memoryVerdicts(name, outcomes) : []),
      ...coldVerdicts(name, outcomes),
      ...sizeVerdicts(name, outcomes, tree.content.bytes),
    ],
  };
}

async function raceCrowds(stage: Stage, options: BenchOptions): Promise<Section> {
  const results: Outcome[][] = [];
  for (const directories of [1, SPREAD_DIRECTORIES]) {
    const fixture = await crowdedFixture(CROWD_FILES, directories, stage.signal);
    await stock(stage, fixture);
    await using tree = await unpackTree(stage, fixture);
    const contestants = [builderdToExt4(stage, fixture), mkfsFromTree(stage, tree)].map(
      (contestant) => ({ ...contestant, name: `${fixture.about}: ${contestant.name}` }),
    );
    results.push(
      await race(stage, chosen(contestants, options), {
        rounds: options.rounds,
        warmUp: true,
        onProgress: say,
      }),
    );
  }
  const [crowded = [], spread = []] = results;
  return {
    title: 'Crowded directories',
    outcomes: [...crowded, ...spread],
    verdicts: crowdVerdicts(crowded, spread),
  };
}

async function unpackTree(stage: Stage, fixture: Fixture): Promise<ReadyTree & AsyncDisposable> {
  const path = join(stage.dir, 'tree');
  const image = `${fixture.dir}:${fixture.tag}`;
  await runProgram('umoci', ['raw', 'unpack', '--image', image, path], { signal: stage.signal });
  return {
    fixture: fixture.name,
    path,
    content: await contentSize(path),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

function chosen(contestants: readonly Contestant[], { only }: BenchOptions): Contestant[] {
  return contestants.filter(
    ({ name, kind }) =>
      only.length === 0 ||
      kind === 'limit' ||
      only.some((word) => name.toLowerCase().includes(word)),
  );
}

async function renderReport(
  stage: Stage,
  sections: readonly Section[],
  options: BenchOptions,
): Promise<string> {
  const machine = await describeMachine(stage.dir, stage.signal);
  const verdicts = sections.flatMap((section) => section.verdicts);
  return [
    '# Benchmark results',
    '',
    `Written by \`npm run bench\` on ${new Date().toISOString().slice(0, 10)}; README.md says what is measured and how.`,
    `${options.rounds} counted rounds; 3 of what takes more than 20 s, 2 of what takes more than a minute.`,
    '',
    ...machine.map((line) => `- ${line}`),
    '',
    '## Targets',
    '',
    renderVerdicts(verdicts),
    '',
    ...sections.flatMap(({ title, outcomes }) => [`## ${title}`, '', renderTable(outcomes), '']),
  ].join('\n');
}

async function warmMemory(bytes: number, signal: AbortSignal): Promise<void> {
  say(`touching ${megabytes(bytes)} of memory`);
  const program = join(HERE, 'warm-memory.ts');
  await runProgram(process.execPath, [program, String(Math.floor(bytes))], { signal });
}

function availableBytes(): number {
  const line = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'));
  return Number(line?.[1] ?? 0) * 1024;
}

function say(line: string): void {
  console.error(`bench: ${line}`);
}
