import type { Log } from '../../core/log.ts';
import { throwIfAborted } from '../../core/scope.ts';
import { readAnswers, type WorkerAnswer } from './answer-reader.ts';
import type { ConvertCall, ConvertedBuild } from './converter.ts';
import type { LaunchStart } from './launch-report.ts';
import type { LaunchedWorker } from './launcher.ts';
import { faultOfEnd } from './worker-fault.ts';
import type { WorkerMount } from './worker-root.ts';

/** Between a worker's last word and its end. */
const ENDING_MS = 2000;
const SIGKILL = 9;

export interface AttendOptions {
  readonly call: ConvertCall;
  /** To name the one that a launcher could not make. */
  readonly mounts: readonly WorkerMount[];
  readonly log: Log;
  readonly nowMs: () => number;
}

export interface Attended {
  readonly answer: WorkerAnswer;
  readonly start: LaunchStart | undefined;
  readonly usage: Pick<ConvertedBuild, 'cpuUs' | 'memoryPeakBytes'>;
}

/** Listens until nothing of the worker runs any more; throws whatever kept it from an answer. */
export async function attendWorker(
  worker: LaunchedWorker,
  { call, mounts, log, nowMs }: AttendOptions,
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
    // A channel that was cut off is no protocol.
    if (answer.kind === 'fault' && end.kind !== 'lost') {
      log.warn({ err: answer.reason, step: 'convert' }, 'A worker broke the protocol');
      throw answer.reason;
    }
    const killed = end.kind === 'ended' && end.how !== 'exit' && end.value === SIGKILL;
    const oomKilled = killed && (await call.cgroup?.wasOomKilled()) === true;
    const fault = faultOfEnd({
      end,
      errorText: worker.errorText(),
      oomKilled,
      mounts,
    });
    if (fault !== undefined) throw fault;
    if (answer.kind === 'fault') throw answer.reason;
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
