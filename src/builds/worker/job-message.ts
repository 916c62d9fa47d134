import { readSync } from 'node:fs';
import { BuilderdError } from '../../core/errors.ts';
import type { FilterSpec } from '../../rootfs/filter/filter-spec.ts';
import type { RuntimeOverrides } from '../../rootfs/image-config/runtime-overrides.ts';
import type { ConversionLimits } from '../../rootfs/layer/layer-source.ts';
import type { ConversionSpec, ImageToConvert } from '../convert-build.ts';
import type { Format } from '../request.ts';

/** What the executor asks of a worker: one line of JSON, then the config, then the guest's init. */
export interface JobMessage {
  readonly version: string;
  readonly limits: ConversionLimits;
  readonly startedAt: string;
  readonly image: Omit<ImageToConvert, 'config' | 'layers'>;
  readonly layers: readonly (Omit<ImageToConvert['layers'][number], 'open'> & {
    readonly fd: number;
  })[];
  readonly outputs: readonly {
    readonly format: Format;
    readonly file: string;
    readonly fd: number;
    readonly directFd?: number;
  }[];
  readonly scratchFd?: number;
  readonly ext4: Omit<ConversionSpec['ext4'], 'uuid'> & { readonly uuidHex?: string };
  readonly guestFiles: boolean;
  readonly devices: ConversionSpec['devices'];
  readonly filter?: FilterSpec;
  readonly runtime?: RuntimeOverrides;
  readonly sourceDateEpoch?: number;
  readonly configBytes: number;
  readonly guestInitBytes?: number;
}

export interface JobParts {
  readonly message: JobMessage;
  readonly config: Buffer;
  readonly guestInit?: Buffer;
}

export function encodeJob({ message, config, guestInit }: JobParts): Buffer {
  const line = Buffer.from(`${JSON.stringify(message)}\n`);
  return Buffer.concat([line, config, ...(guestInit === undefined ? [] : [guestInit])]);
}

/** Reads the job to its end. Not foreign data: the same version of the same program wrote it. */
export function readJob(fd: number): JobParts {
  const bytes = readToEnd(fd);
  const end = bytes.indexOf(0x0a);
  if (end < 0) throw new BuilderdError('internal', 'Cannot start the worker: the job is cut short');
  const message: JobMessage = JSON.parse(bytes.toString('utf8', 0, end));
  const configEnd = end + 1 + message.configBytes;
  const total = configEnd + (message.guestInitBytes ?? 0);
  if (bytes.length !== total) {
    throw new BuilderdError(
      'internal',
      `Cannot start the worker: the job has ${bytes.length} bytes, want ${total}`,
    );
  }
  const config = bytes.subarray(end + 1, configEnd);
  return message.guestInitBytes === undefined
    ? { message, config }
    : { message, config, guestInit: bytes.subarray(configEnd) };
}

function readToEnd(fd: number): Buffer {
  const chunks: Buffer[] = [];
  for (;;) {
    const chunk = Buffer.allocUnsafe(256 * 1024);
    const count = readSync(fd, chunk);
    if (count === 0) return Buffer.concat(chunks);
    chunks.push(chunk.subarray(0, count));
  }
}
