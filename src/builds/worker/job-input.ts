import type { ConversionLimits } from '../../rootfs/layer/layer-source.ts';
import type { ConvertCall, ConvertJob } from './converter.ts';
import type { HandedFiles } from './handed-files.ts';
import { encodeJob } from './job-message.ts';

const GIB = 1024 ** 3;

/** Twice the content is what the block file may take; metadata is far less than a quarter. */
export function fileLimit(job: ConvertJob, call: ConvertCall, limits: ConversionLimits): number {
  const { size } = job.ext4;
  const asked = size.kind === 'fixed' ? size.bytes : size.extraBytes;
  const largest = Math.ceil(1.25 * (2 * limits.maxPlainBytes + asked)) + GIB;
  return Math.max(1, Math.floor(Math.min(call.maxArtifactBytes ?? largest, largest)));
}

/** What the worker reads from stdin. */
export function encodeInput(
  job: ConvertJob,
  files: HandedFiles,
  { version, limits }: { readonly version: string; readonly limits: ConversionLimits },
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
      ...(job.filter === undefined ? {} : { filter: job.filter }),
      ...(job.runtime === undefined ? {} : { runtime: job.runtime }),
      ...(job.sourceDateEpoch === undefined ? {} : { sourceDateEpoch: job.sourceDateEpoch }),
      configBytes: config.length,
      ...(guestInit === undefined ? {} : { guestInitBytes: guestInit.length }),
    },
    config,
    ...(guestInit === undefined ? {} : { guestInit }),
  });
}
