import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheRoot } from '../../contrib/dev/cache.ts';
import { startRegistry } from '../../contrib/dev/loopback-registry.ts';
import { startPrivateContainerd } from '../../contrib/dev/private-containerd.ts';
import { pushLayout } from '../../contrib/dev/push-layout.ts';
import { removeMountsUnder } from '../../contrib/dev/mounts-under.ts';
import { runProgram } from '../../contrib/dev/run-program.ts';
import type { Fixture } from './fixtures.ts';

/** What all contestants share: a directory, a registry with the images, a containerd with them. */
export interface Stage extends AsyncDisposable {
  /** Everything that a run writes lies below it, on one file system. */
  readonly dir: string;
  readonly registryHost: string;
  readonly containerd: { readonly address: string; readonly pid: number };
  readonly signal: AbortSignal;
}

export const NAMESPACE = 'bench';

export function referenceOf(stage: Stage, fixture: Fixture): string {
  const name = fixture.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  return `${stage.registryHost}/bench/${name}:1`;
}

/** A loop mount, an unfinished output: whatever a stopped run left goes with the stage. */
export async function openStage(signal: AbortSignal): Promise<Stage> {
  await mkdir(join(cacheRoot(), 'bench'), { recursive: true });
  const dir = await mkdtemp(join(cacheRoot(), 'bench', 'run-'));
  const stack = new AsyncDisposableStack();
  try {
    stack.defer(async () => {
      await removeMountsUnder(dir);
      await rm(dir, { recursive: true, force: true });
    });
    const registry = stack.use(await startRegistry({ dir: join(dir, 'registry'), signal }));
    const containerd = stack.use(await startPrivateContainerd({ dir: join(dir, 'ctd'), signal }));
    const owned = stack.move();
    return {
      dir,
      registryHost: registry.host,
      containerd,
      signal,
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } catch (reason) {
    await stack.disposeAsync();
    throw reason;
  }
}

/** Pushes the image to the registry, and fetches it into containerd's store without unpacking. */
export async function stock(stage: Stage, fixture: Fixture): Promise<void> {
  const reference = referenceOf(stage, fixture);
  const [repository = '', tag = ''] = reference.slice(stage.registryHost.length + 1).split(':');
  await pushLayout({
    layoutDir: fixture.dir,
    layoutTag: fixture.tag,
    registry: stage.registryHost,
    repository,
    tag,
    signal: stage.signal,
  });
  await ctr(stage, stage.containerd.address, fetchArguments(reference));
}

/** Into containerd's content store only, nothing unpacked. */
export function fetchArguments(reference: string): string[] {
  return ['content', 'fetch', '--plain-http', reference];
}

export function ctrArgv(address: string, args: readonly string[]): [string, ...string[]] {
  return ['ctr', '--address', address, '--namespace', NAMESPACE, ...args];
}

export async function ctr(stage: Stage, address: string, args: readonly string[]): Promise<string> {
  const [program, ...rest] = ctrArgv(address, args);
  return runProgram(program, rest, { signal: stage.signal });
}

export async function sizeOf(path: string): Promise<number> {
  return (await stat(path)).size;
}
