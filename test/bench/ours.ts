import { mkdir, readdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startPrivateContainerd } from '../../contrib/dev/private-containerd.ts';
import { runProgram } from '../../contrib/dev/run-program.ts';
import type { Contestant, Kind } from './contestant.ts';
import type { Fixture } from './fixtures.ts';
import type { Command } from './measure.ts';
import { NAMESPACE, referenceOf, sizeOf, type Stage } from './stage.ts';

const ROOT = resolve(fileURLToPath(import.meta.url), '../../..');
const PROGRAM = join(ROOT, 'src/cli/builderd.mjs');
const LIMIT = join(ROOT, 'test/bench/limit.ts');

/** The limit, and what is measured against it: the real command line, on an image in the store. */
export function limitAndOurs(stage: Stage, fixture: Fixture): Contestant[] {
  return [
    limit(stage, fixture),
    builderd(stage, fixture, 'ext4', ['ext4']),
    builderd(stage, fixture, 'tar', ['tar']),
    builderd(stage, fixture, 'ext4+tar', ['ext4', 'tar']),
  ];
}

/** One builderd run on an image in the store, to ext4 only. */
export function builderdToExt4(stage: Stage, fixture: Fixture): Contestant {
  return builderd(stage, fixture, 'ext4', ['ext4']);
}

/** The command line of a build that finds its image in the store, for measuring and profiling. */
export function buildCommand(
  address: string,
  reference: string,
  options: {
    readonly formats: readonly string[];
    readonly out: string;
    readonly pull: 'never' | 'missing';
    readonly registryHost: string;
    readonly nodeOptions?: readonly string[];
    readonly progress?: 'json' | 'plain';
  },
): Command {
  const { formats, out, pull, registryHost, nodeOptions = [], progress = 'plain' } = options;
  return {
    argv: [
      process.execPath,
      // As the program's first line does when it is started by its own name.
      '--max-semi-space-size=4',
      ...nodeOptions,
      PROGRAM,
      'build',
      reference,
      ...['--format', formats.join(','), '--size', 'min', '--output', out, '--pull', pull],
      ...['--containerd-address', address, '--namespace', NAMESPACE, '--progress', progress],
    ],
    env: { UNKEY_BUILDERD_EGRESS_ALLOW: registryHost },
  };
}

function limit(stage: Stage, fixture: Fixture): Contestant {
  const out = join(stage.dir, 'limit.out');
  return {
    name: 'limit: node:zlib + sha256 + write + fsync',
    kind: 'limit',
    fixture: fixture.name,
    ours: false,
    prepare: () =>
      Promise.resolve([{ argv: [process.execPath, LIMIT, out, ...fixture.layerBlobs] }]),
    inspect: () => sizeOf(out),
    cleanup: () => rm(out, { force: true }),
  };
}

function builderd(
  stage: Stage,
  fixture: Fixture,
  kind: Kind,
  formats: readonly string[],
): Contestant {
  const dir = join(stage.dir, 'ours');
  const out = join(dir, 'rootfs');
  return {
    name: `builderd build → ${formats.join(' + ')}`,
    kind,
    fixture: fixture.name,
    ours: true,
    async prepare() {
      await mkdir(dir);
      const reference = referenceOf(stage, fixture);
      const { registryHost, containerd } = stage;
      return [
        buildCommand(containerd.address, reference, { formats, out, pull: 'never', registryHost }),
      ];
    },
    daemons: () => [stage.containerd.pid],
    inspect: () => inspectArtifacts(dir, formats, stage.signal),
    cleanup: () => rm(dir, { recursive: true, force: true }),
  };
}

/** From a registry and an empty containerd to the disk. */
export function builderdCold(stage: Stage, fixture: Fixture): Contestant {
  const dir = join(stage.dir, 'ours-cold');
  const out = join(dir, 'rootfs');
  const daemon = coldContainerd(stage);
  return {
    name: 'builderd build, cold pull → ext4',
    kind: 'cold ext4',
    fixture: fixture.name,
    ours: true,
    async prepare() {
      await mkdir(dir);
      const { registryHost } = stage;
      const options = { formats: ['ext4'], out, pull: 'missing', registryHost } as const;
      return [buildCommand(await daemon.start(), referenceOf(stage, fixture), options)];
    },
    daemons: () => daemon.pids(),
    inspect: () => inspectArtifacts(dir, ['ext4'], stage.signal),
    async cleanup() {
      await daemon.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export interface ColdContainerd {
  /** Starts a containerd that holds nothing; gives its socket. */
  start(): Promise<string>;
  pids(): readonly number[];
  stop(): Promise<void>;
}

export function coldContainerd(stage: Stage): ColdContainerd {
  let running: Awaited<ReturnType<typeof startPrivateContainerd>> | undefined;
  return {
    async start() {
      running = await startPrivateContainerd({
        dir: join(stage.dir, 'cold'),
        signal: stage.signal,
      });
      return running.address;
    },
    pids: () => (running === undefined ? [] : [running.pid]),
    async stop() {
      await running?.stop();
      running = undefined;
    },
  };
}

/** A figure for a wrong disk is worth nothing: each first disk is checked. */
async function inspectArtifacts(
  dir: string,
  formats: readonly string[],
  signal: AbortSignal,
): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || entry.name.endsWith('.json')) continue;
    bytes += await sizeOf(path);
    // With one format the file is called `rootfs`, with several `rootfs.ext4` and so on.
    const isExt4 = formats.length === 1 ? formats[0] === 'ext4' : entry.name.endsWith('.ext4');
    if (isExt4) await runProgram('e2fsck', ['-fn', path], { signal });
  }
  if (bytes === 0) throw new Error(`Cannot find an artifact in ${dir}`);
  return bytes;
}
