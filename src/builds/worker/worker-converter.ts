import path from 'node:path';
import { loadAddon } from '../../../native/addon.ts';
import { LAUNCHER_FILE } from '../../../native/launcher.ts';
import { BuilderdError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import type { Log } from '../../core/log.ts';
import { throwIfAborted } from '../../core/scope.ts';
import type { ConversionLimits } from '../../rootfs/layer/layer-source.ts';
import { readAnswers, type WorkerAnswer } from './answer-reader.ts';
import type { ConvertCall, ConvertedBuild, Converter, ConvertJob } from './converter.ts';
import { parseDocuments } from './described-image.ts';
import { type HandedFiles, openHandedFiles } from './handed-files.ts';
import { IdRanges, workerIds } from './id-ranges.ts';
import { encodeJob } from './job-message.ts';
import type { LaunchStart } from './launch-report.ts';
import { type LaunchedWorker, launchWorker } from './launcher.ts';
import { faultOfEnd } from './worker-fault.ts';
import {
  describeWorkerRoot,
  loadedLibraries,
  NODE_FLAGS,
  rootFor,
  workerEntry,
  type WorkerRoot,
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
}

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
/** Threads count: Node has about a dozen. */
const PROCESSES = 64;
const TMP_BYTES = 4 * MIB;
/** Between a worker's last word and its end. */
const ENDING_MS = 2000;
const ROOT = path.resolve(import.meta.dirname, '../../..');

/**
 * Converts each image in a fresh process that has no rights, no network and no files but the
 * handed ones. Needs root. Throws `host.permission` or `host.unsupported` when the code cannot be
 * shown to such a process; what the kernel refuses shows with the first conversion.
 */
export function createWorkerConverter(options: WorkerConverterOptions): Converter {
  const codeRoot = options.codeRoot ?? ROOT;
  // What the addon finds at run time must be mapped here to be shown to a worker.
  loadAddon()?.loadIsal();
  const shared = describeWorkerRoot({
    nodePath: options.nodePath ?? process.execPath,
    codeRoot,
    libraries: loadedLibraries(),
    ...(options.cacheDir === undefined ? {} : { cacheDir: options.cacheDir }),
  });
  const ranges = new IdRanges();
  return {
    async convert(job, call) {
      throwIfAborted(call.signal, 'convert the image');
      await using files = await openHandedFiles(job, call.signal);
      using range = call.idBase === undefined ? ranges.take() : borrowed(call.idBase);
      const ids = workerIds(range.base);
      const root = rootFor(shared, ids.worker);
      const worker = await launchWorker({
        launcher: options.launcher ?? LAUNCHER_FILE,
        root,
        ids,
        limits: {
          tmpBytes: TMP_BYTES,
          fileBytes: fileLimit(job, call, options.limits),
          processes: PROCESSES,
        },
        args: [...NODE_FLAGS, ...heapFlags(call), workerEntry(codeRoot)],
        input: encodeInput(job, files, options),
        handed: files.descriptors,
        ...(call.cgroup === undefined ? {} : { cgroupFd: call.cgroup.directory.fd }),
      });
      const { answer, start, usage } = await attend(worker, call, root, options);
      const isolation = describeIsolation(ids.worker, start, call);
      return { ...(await accept(answer, job)), ...usage, ...isolation };
    },
  };
}

function borrowed(base: number): { readonly base: number } & Disposable {
  return { base, [Symbol.dispose]: () => undefined };
}

function heapFlags({ maxHeapBytes }: ConvertCall): string[] {
  return maxHeapBytes === undefined
    ? []
    : [`--max-old-space-size=${Math.max(64, Math.floor(maxHeapBytes / MIB))}`];
}

/** Twice the content is what the block file may take; metadata is far less than a quarter. */
function fileLimit(job: ConvertJob, call: ConvertCall, limits: ConversionLimits): number {
  const { size } = job.ext4;
  const asked = size.kind === 'fixed' ? size.bytes : size.extraBytes;
  const largest = Math.ceil(1.25 * (2 * limits.maxPlainBytes + asked)) + GIB;
  return Math.max(1, Math.floor(Math.min(call.maxArtifactBytes ?? largest, largest)));
}

function encodeInput(
  job: ConvertJob,
  files: HandedFiles,
  { version, limits }: WorkerConverterOptions,
): Buffer {
  const { image, guestInit } = job;
  const { uuid, ...ext4 } = job.ext4;
  const { reference, target, manifest, configDescriptor, platform, config } = image;
  return encodeJob({
    message: {
      version,
      limits,
      startedAt: job.startedAt.toISOString(),
      image: { reference, target, manifest, configDescriptor, platform },
      layers: files.layers,
      outputs: files.outputs,
      ...(files.scratchFd === undefined ? {} : { scratchFd: files.scratchFd }),
      ext4: uuid === undefined ? ext4 : { ...ext4, uuidHex: uuid.toString('hex') },
      guestFiles: job.guestFiles,
      devices: job.devices,
      ...(job.sourceDateEpoch === undefined ? {} : { sourceDateEpoch: job.sourceDateEpoch }),
      configBytes: config.length,
      ...(guestInit === undefined ? {} : { guestInitBytes: guestInit.length }),
    },
    config,
    ...(guestInit === undefined ? {} : { guestInit }),
  });
}

interface Attended {
  readonly answer: WorkerAnswer;
  readonly start: LaunchStart | undefined;
  readonly usage: Pick<ConvertedBuild, 'cpuUs' | 'memoryPeakBytes'>;
}

/** Listens until nothing of the worker runs any more; throws whatever kept it from an answer. */
async function attend(
  worker: LaunchedWorker,
  call: ConvertCall,
  root: WorkerRoot,
  { nowMs, log }: WorkerConverterOptions,
): Promise<Attended> {
  let ending: NodeJS.Timeout | undefined;
  const awaitEnd = (): void => {
    ending ??= setTimeout(() => worker.stop(), ENDING_MS);
  };
  const onAbort = (): void => worker.stop();
  call.signal.addEventListener('abort', onAbort, { once: true });
  if (call.signal.aborted) worker.stop();
  try {
    const answer = await readAnswers(worker.answers, {
      onProgress: call.onProgress,
      onAnswered: awaitEnd,
      nowMs,
    }).catch((reason: unknown) => {
      worker.stop();
      return { kind: 'fault' as const, reason };
    });
    // A channel that is closed is a last word too.
    awaitEnd();
    const { start, end } = await worker.ended;
    throwIfAborted(call.signal, 'convert the image');
    if (answer.kind === 'fault') {
      log.warn({ err: answer.reason, step: 'convert' }, 'A worker broke the protocol');
      throw answer.reason;
    }
    const killed = end.kind === 'ended' && end.how !== 'exit' && end.value === SIGKILL;
    const oomKilled = killed && (await call.cgroup?.wasOomKilled()) === true;
    const fault = faultOfEnd({
      end,
      errorText: worker.errorText(),
      oomKilled,
      mounts: root.mounts,
    });
    if (fault !== undefined) throw fault;
    const usage =
      end.kind === 'ended'
        ? { cpuUs: end.cpuUs, memoryPeakBytes: end.peakKib * 1024 }
        : { cpuUs: 0, memoryPeakBytes: 0 };
    return { answer, start, usage };
  } finally {
    clearTimeout(ending);
    call.signal.removeEventListener('abort', onAbort);
  }
}

const SIGKILL = 9;

/** Believes what can be seen from here, and hands the rest on as claims. */
async function accept(
  answer: WorkerAnswer,
  job: ConvertJob,
): Promise<Pick<ConvertedBuild, 'artifacts' | 'metadataText' | 'fidelityText' | 'image'>> {
  if (answer.kind === 'none') throw lie('it ended without one');
  if (answer.kind === 'failed') throw new BuilderdError(answer.code, answer.message);
  const { artifacts, metadata, fidelity } = answer;
  if (artifacts.length !== job.outputs.length) throw lie('artifacts are missing');
  for (const [i, { format, handle }] of job.outputs.entries()) {
    const claimed = artifacts[i];
    const { size } = await handle.stat();
    if (claimed?.format === format && claimed.sizeBytes === size) continue;
    throw lie(`an artifact has ${size} bytes, it says ${claimed?.sizeBytes ?? 'nothing'}`);
  }
  const image = parseDocuments(metadata, fidelity, { image: job.image, artifacts });
  return {
    artifacts,
    metadataText: metadata.toString('utf8'),
    fidelityText: fidelity.toString('utf8'),
    image,
  };
}

function lie(fact: string): BuilderdError {
  return new BuilderdError('internal', `Cannot use the worker's answer: ${fact}`);
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
      securityContexts: [`uid=${id}`, 'no_new_privs', 'capabilities=none', 'network=none'],
      cgroupPath: cgroup?.path ?? '',
    },
    charged: cgroup !== undefined,
  };
}
