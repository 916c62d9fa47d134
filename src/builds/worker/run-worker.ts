import { readFileSync } from 'node:fs';
import type { Addon } from '../../../native/addon.ts';
import type { Clock } from '../../core/clock.ts';
import { asBuilderdError, BuilderdError, errnoOf } from '../../core/errors.ts';
import { convertBuild, type ConversionSpec } from '../convert-build.ts';
import { ANSWER_FD, AnswerWriter } from './answer-message.ts';
import { descriptorFile } from './descriptor-file.ts';
import { type JobMessage, type JobParts, readJob } from './job-message.ts';
import { privilegesLeft } from './privileges-left.ts';

export interface WorkerDeps {
  readonly addon: Addon | undefined;
  readonly clock: Clock;
  readonly nowMs: () => number;
}

/** The life of a worker: one job from stdin, one answer. What goes wrong is part of the answer. */
export async function runWorker(deps: WorkerDeps): Promise<void> {
  const answers = new AnswerWriter(ANSWER_FD, deps.nowMs);
  try {
    refusePrivileges();
    const parts = readJob(0);
    const { version, limits } = parts.message;
    const result = await convertBuild(
      specOf(parts),
      { ...deps, version, limits },
      {
        // Cancelling a worker means killing it.
        signal: new AbortController().signal,
        onProgress: (event) => answers.progress(event),
      },
    );
    answers.result(result);
  } catch (reason) {
    answers.failed(toFault(reason));
  }
}

/** A launcher that did less than it said must not go unnoticed. */
function refusePrivileges(): void {
  const left = privilegesLeft(readFileSync('/proc/self/status', 'utf8'));
  if (left.length === 0) return;
  throw new BuilderdError('isolation.unavailable', `Cannot run the worker: ${left.join(', ')}`);
}

function specOf({ message, config, guestInit }: JobParts): ConversionSpec {
  const { uuidHex, ...ext4 } = message.ext4;
  return {
    image: {
      ...message.image,
      config,
      layers: message.layers.map(({ fd, ...layer }) => ({
        ...layer,
        open: async () => descriptorFile(fd),
      })),
    },
    outputs: message.outputs.map(({ format, file, fd, directFd }) => ({
      format,
      file,
      handle: descriptorFile(fd),
      ...(directFd === undefined ? {} : { direct: descriptorFile(directFd) }),
    })),
    openScratch: async () => scratchOf(message),
    ext4: uuidHex === undefined ? ext4 : { ...ext4, uuid: Buffer.from(uuidHex, 'hex') },
    guestFiles: message.guestFiles,
    devices: message.devices,
    ...(message.filter === undefined ? {} : { filter: message.filter }),
    ...(message.runtime === undefined ? {} : { runtime: message.runtime }),
    startedAt: new Date(message.startedAt),
    ...(message.sourceDateEpoch === undefined ? {} : { sourceDateEpoch: message.sourceDateEpoch }),
    ...(guestInit === undefined ? {} : { guestInit }),
  };
}

function scratchOf({ scratchFd }: JobMessage): ReturnType<typeof descriptorFile> {
  if (scratchFd !== undefined) return descriptorFile(scratchFd);
  throw new BuilderdError('internal', 'Cannot convert the image: there is no scratch file');
}

function toFault(reason: unknown): BuilderdError {
  if (errnoOf(reason) === 'EFBIG') {
    return new BuilderdError(
      'quota.denied',
      'Cannot convert the image: an artifact became larger than this build may make',
      { cause: reason },
    );
  }
  return asBuilderdError(reason, 'convert the image');
}
