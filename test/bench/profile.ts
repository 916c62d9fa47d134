import '../../contrib/dev/require-node.ts';
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { cacheRoot } from '../../contrib/dev/cache.ts';
import { exitOf } from '../../contrib/dev/run-program.ts';
import { largeFixture, smallFixture } from './fixtures.ts';
import { buildCommand } from './ours.ts';
import { threadCpuMs } from './procfs.ts';
import { openStage, referenceOf, stock } from './stage.ts';

/**
 * Where the time of one `builderd build` goes: phases by its own progress events, CPU time of every
 * thread (the pool of native work too), and the functions that the CPU profile of JavaScript found
 * most often; there, time that is spent waiting for the pool shows as (idle).
 *
 *     node test/bench/profile.ts [S|L] [FORMATS]
 */
const TOP = 25;
const Node = Type.Object({
  id: Type.Number(),
  callFrame: Type.Object({
    functionName: Type.String(),
    url: Type.String(),
    lineNumber: Type.Number(),
  }),
});
const Profile = Type.Object({
  nodes: Type.Array(Node),
  samples: Type.Array(Type.Number()),
  timeDeltas: Type.Array(Type.Number()),
});

const [name = 'L', formats = 'ext4'] = process.argv.slice(2);
const stop = new AbortController();
process.once('SIGINT', () => stop.abort(new Error('stopped by SIGINT')));
const { signal } = stop;
const fixture = name === 'S' ? await smallFixture(signal) : await largeFixture(signal);
const profiles = join(cacheRoot(), 'bench', 'profile');
await rm(profiles, { recursive: true, force: true });
await mkdir(profiles, { recursive: true });
{
  await using stage = await openStage(signal);
  await stock(stage, fixture);
  const out = join(stage.dir, 'ours');
  const options = {
    formats: formats.split(','),
    out,
    pull: 'never',
    registryHost: stage.registryHost,
    progress: 'json',
    nodeOptions: ['--cpu-prof', `--cpu-prof-dir=${profiles}`],
  } as const;
  const reference = referenceOf(stage, fixture);
  const {
    argv: [program, ...args],
    env,
  } = buildCommand(stage.containerd.address, reference, options);
  const started = performance.now();
  const child = spawn(program, args, {
    signal,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const log = createWriteStream(join(profiles, 'progress.jsonl'));
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      log.write(chunk);
      for (const line of chunk.toString('utf8').split('\n')) {
        if (!line.includes('"phase"') || line.includes('"bytes"')) continue;
        console.log(`${((performance.now() - started) / 1000).toFixed(2)} s  ${line}`);
      }
    });
  }
  let threads = new Map<string, number>();
  // What is there shortly before the end: a thread's own figures are gone with it.
  const sampler = setInterval(() => {
    const now = child.pid === undefined ? threads : threadCpuMs(child.pid);
    threads = new Map([...threads, ...now]);
  }, 50);
  const code = await exitOf(child);
  clearInterval(sampler);
  log.end();
  for (const [thread, ms] of threads) console.log(`${String(ms).padStart(8)} ms CPU  ${thread}`);
  console.log(`exit ${code} after ${((performance.now() - started) / 1000).toFixed(2)} s`);
}
for (const file of (await readdir(profiles)).filter((each) => each.endsWith('.cpuprofile'))) {
  console.log(`\n${join(profiles, file)}`);
  for (const line of await hottest(join(profiles, file))) console.log(line);
}
console.log(`\nall events: ${join(profiles, 'progress.jsonl')}`);

async function hottest(file: string): Promise<string[]> {
  const profile = Value.Parse(Profile, JSON.parse(await readFile(file, 'utf8')));
  const names = new Map(
    profile.nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => {
      const place = url === '' ? '' : ` ${url.split('/').slice(-3).join('/')}:${lineNumber + 1}`;
      return [id, `${functionName || '(anonymous)'}${place}`];
    }),
  );
  const selfMs = new Map<string, number>();
  profile.samples.forEach((id, index) => {
    const key = names.get(id) ?? '?';
    selfMs.set(key, (selfMs.get(key) ?? 0) + (profile.timeDeltas[index] ?? 0) / 1000);
  });
  return [...selfMs]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, TOP)
    .map(([key, ms]) => `${ms.toFixed(0).padStart(8)} ms  ${key}`);
}
