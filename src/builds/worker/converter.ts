import type { FileHandle } from 'node:fs/promises';
import type { Digest } from '../../core/digest.ts';
import type { ProgressListener } from '../../core/progress.ts';
import type { AcquiredImage } from '../ports.ts';
import type { BuildRequest, Format } from '../request.ts';
import type { ImageFacts, IsolationFacts } from '../service/views.ts';

/** One conversion: an acquired image into files that the caller has opened. */
export interface ConvertJob
  extends Pick<
    BuildRequest,
    'ext4' | 'guestFiles' | 'devices' | 'filter' | 'runtime' | 'sourceDateEpoch'
  > {
  /** Stays the caller's. */
  readonly image: AcquiredImage;
  /** Empty files, open for reading and writing; they stay the caller's. */
  readonly outputs: readonly ConvertOutput[];
  /**
   * Opens an empty, unlinked file for data. Asked only when no output is ext4; the converter
   * closes it.
   */
  readonly openScratch: () => Promise<FileHandle>;
  readonly startedAt: Date;
  /** The program that becomes /usr/bin/metald-init with guest files. */
  readonly guestInit?: Buffer;
}

export interface ConvertOutput {
  readonly format: Format;
  readonly handle: FileHandle;
  /** What metadata.json calls the file; `rootfs.<format>` when absent. */
  readonly file?: string;
}

export interface ConvertCall {
  /** When it aborts, the work is killed at once and the reason is thrown. */
  readonly signal: AbortSignal;
  readonly onProgress: ProgressListener;
  /** First of 65,536 ids that belong to this build alone: a multiple of 65,536, and not 0. */
  readonly idBase?: number;
  /** A cgroup v2 directory to start the work in; without one it is not charged to anybody. */
  readonly cgroup?: ConvertCgroup;
  /** All outputs together may not become larger, whatever the image says. */
  readonly maxArtifactBytes?: number;
  /** Bound of the worker's JavaScript heap; V8's own when absent. */
  readonly maxHeapBytes?: number;
}

export interface ConvertCgroup {
  /** The opened directory. */
  readonly directory: FileHandle;
  /** For the record of isolation. */
  readonly path: string;
  /** Whether the kernel's OOM killer ended something in it; asked after a death by SIGKILL. */
  wasOomKilled(): Promise<boolean>;
}

export interface ConvertedBuild {
  /**
   * In the order of the outputs. Sizes were compared with the files; digests are what the worker
   * claims, and whoever stores the files hashes them again.
   */
  readonly artifacts: readonly ClaimedArtifact[];
  /** metadata.json. Its facts agree with `artifacts` and with the image. */
  readonly metadataText: string;
  /** fidelity.json. */
  readonly fidelityText: string;
  readonly image: ImageFacts;
  /** Largest resident set of the process that converted. */
  readonly memoryPeakBytes: number;
  readonly cpuUs: number;
  readonly isolation: IsolationFacts;
  /** True when a cgroup counted the work. */
  readonly charged: boolean;
}

export interface ClaimedArtifact {
  readonly format: Format;
  readonly sizeBytes: number;
  readonly digest: Digest;
}

/**
 * Turns images into artifacts. After a fault the outputs hold rubbish. Throws what a conversion
 * throws (`archive.*`, `image.*`, `source.*`, `artifact.*`, `storage.*`), the reason of `signal`,
 * `isolation.unavailable` when the host refuses a part of the isolation, `build.oom`, and
 * `internal` for a worker that died, lied or broke the protocol.
 */
export interface Converter {
  convert(job: ConvertJob, call: ConvertCall): Promise<ConvertedBuild>;
}
