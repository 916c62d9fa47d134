import path from 'node:path';
import { loadAddon } from '../../../native/addon.ts';
import { LAUNCHER_FILE } from '../../../native/launcher.ts';
import { newId } from '../../core/ids.ts';
import type { Log } from '../../core/log.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { ConversionLimits } from '../../rootfs/layer/layer-source.ts';
import { acceptAnswer } from './accept-answer.ts';
import { attendWorker } from './attend-worker.ts';
import type { ConvertCall, ConvertedBuild, Converter } from './converter.ts';
import { DiskWatch } from './disk-watch.ts';
import { openHandedFiles } from './handed-files.ts';
import { type IdRange, IdRanges, workerIds } from './id-ranges.ts';
import { encodeInput, fileLimit } from './job-input.ts';
import type { LaunchStart } from './launch-report.ts';
import { type LaunchedWorker, launchWorker } from './launcher.ts';
import { WARM_ARGUMENT } from './warm-argument.ts';
import {
  describeWorkerRoot,
  loadedLibraries,
  NODE_FLAGS,
  rootFor,
  workerEntry,
} from './worker-root.ts';

export interface WorkerConverterOptions {
  readonly limits: ConversionLimits;
  readonly version: string;
  readonly log: Log;
  readonly nowMs: () => number;
  /** The compiled launcher; where native/build.ts puts it when absent. */
  readonly launcher?: string;
  /** Must be the program that runs us, which it is when absent. */
  readonly nodePath?: string;
  /** The directory that holds src, native, prebuilds and package.json; ours when absent. */
  readonly codeRoot?: string;
  /** Made by `warmWorkerCache`. */
  readonly cacheDir?: string;
  /** Of this process alone when absent: other services of this host may use the same ids. */
  readonly ids?: IdRanges;
}

export interface WorkerConverter extends Converter {
  /**
   * Starts a worker that has nothing to do. Throws `isolation.unavailable` with the step that this
   * host refuses: to be asked before the first build, and by `doctor`.
   */
  check(call: { readonly signal: AbortSignal }): Promise<void>;
}

const MIB = 1024 ** 2;
/** Threads count: Node has about a dozen. */
const PROCESSES = 64;
const TMP_BYTES = 4 * MIB;
const ROOT = path.resolve(import.meta.dirname, '../../..');

/**
 * Converts each image in a fresh process that has no rights, no network and no files but the
 * handed ones. Needs root. Throws `host.permission` or `host.unsupported` when the code cannot be
 * shown to such a process; what the kernel refuses shows with the first conversion.
 */
export function createWorkerConverter(options: WorkerConverterOptions): WorkerConverter {
  const codeRoot = options.codeRoot ?? ROOT;
  // What the addon finds at run time must be mapped here to be shown to a worker.
  loadAddon()?.loadIsal();
  const shared = describeWorkerRoot({
    nodePath: options.nodePath ?? process.execPath,
    codeRoot,
    libraries: loadedLibraries(),
    ...(options.cacheDir === undefined ? {} : { cacheDir: options.cacheDir }),
  });
  const ranges = options.ids ?? new IdRanges();
  return {
    async check({ signal }) {
      using range = ranges.take();
      const ids = workerIds(range.base);
      const root = rootFor(shared, ids.worker);
      const worker = await launchWorker({
        launcher: options.launcher ?? LAUNCHER_FILE,
        root,
        ids,
        limits: { tmpBytes: TMP_BYTES, fileBytes: MIB, processes: PROCESSES },
        args: [...NODE_FLAGS, workerEntry(codeRoot), WARM_ARGUMENT],
        input: Buffer.alloc(0),
        handed: [],
      });
      const call = { signal, onProgress: () => undefined };
      await withholding(range, worker, () =>
        attendWorker(worker, { ...options, call, mounts: root.mounts }),
      );
    },
    async convert(job, call) {
      throwIfAborted(call.signal, 'convert the image');
      await using files = await openHandedFiles(job, call.signal);
      await using disk = new DiskWatch(
        { ...files, outputs: job.outputs.map(({ handle }) => handle) },
        call.maxArtifactBytes ?? Number.POSITIVE_INFINITY,
      );
      using range = call.idBase === undefined ? ranges.take() : borrowed(call.idBase);
      const ids = workerIds(range.base);
      const root = rootFor(shared, ids.worker);
      const fileBytes = fileLimit(job, call, options.limits);
      const worker = await launchWorker({
        launcher: options.launcher ?? LAUNCHER_FILE,
        root,
        ids,
        limits: {
          tmpBytes: TMP_BYTES,
          fileBytes,
          processes: PROCESSES,
        },
        args: [...NODE_FLAGS, ...heapFlags(call), workerEntry(codeRoot)],
        input: encodeInput(job, files, options),
        handed: files.descriptors,
        ...(call.cgroup === undefined ? {} : { cgroupFd: call.cgroup.directory.fd }),
      });
      const signal = AbortSignal.any([call.signal, disk.signal]);
      const { answer, start, usage } = await withholding(range, worker, () =>
        attendWorker(worker, { ...options, call: { ...call, signal }, mounts: root.mounts }),
      );
      await disk.check();
      const isolation = describeIsolation(ids.worker, start, call);
      const accepted = await acceptAnswer(answer, job, (fault) =>
        disk.withNumbers(fault, fileBytes),
      );
      return { ...accepted, ...usage, ...isolation };
    },
  };
}

/** The caller's to give back. */
function borrowed(base: number): IdRange {
  return { base, withhold: () => undefined, [Symbol.dispose]: () => undefined };
}

/**
 * A launcher reports when everything inside has ended. One that was killed before, because that
 * took too long, leaves it to the kernel: nobody knows when.
 */
async function withholding<T>(
  range: IdRange,
  worker: LaunchedWorker,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } finally {
    const { start, end } = await worker.ended;
    if (end.kind === 'lost') range.withhold(start?.pid);
  }
}

function heapFlags({ maxHeapBytes }: ConvertCall): string[] {
  return maxHeapBytes === undefined
    ? []
    : [`--max-old-space-size=${Math.max(64, Math.floor(maxHeapBytes / MIB))}`];
}

function describeIsolation(
  id: number,
  start: LaunchStart | undefined,
  { cgroup }: ConvertCall,
): Pick<ConvertedBuild, 'isolation' | 'charged'> {
  return {
    isolation: {
      sandboxId: newId(),
      networkNamespace: `net:[${start?.networkNamespace ?? 0}]`,
      filesystemNamespace: `mnt:[${start?.mountNamespace ?? 0}]`,
      // Each is a step that the launcher does not go past, and that the worker looks at again.
      securityContexts: [
        `uid=${id}`,
        'no_new_privs',
        'capabilities=none',
        'network=none',
        'seccomp=filter',
      ],
      cgroupPath: cgroup?.path ?? '',
    },
    charged: cgroup !== undefined,
  };
}
