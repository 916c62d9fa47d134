import type { Digest } from '../../core/digest.ts';
import type { StopSignal } from './stop-signal.ts';
import type { UserSpec } from './user-spec.ts';

export interface ExposedPort {
  readonly port: number;
  /** Last port of a range; equal to `port` otherwise. */
  readonly lastPort: number;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
}

/** Docker's health check. Times are nanoseconds, as in the document. */
export interface Healthcheck {
  readonly test: readonly string[];
  readonly intervalNs?: number;
  readonly timeoutNs?: number;
  readonly startPeriodNs?: number;
  readonly startIntervalNs?: number;
  readonly retries?: number;
}

/**
 * The OCI image config (image-spec config.md) with Docker's additions, checked. Foreign strings
 * are text for people and programs inside the guest; none of them is ever used on this host.
 */
export interface ImageConfig {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly osVersion?: string;
  readonly author?: string;
  /** RFC 3339, as written. */
  readonly created?: string;
  readonly historyCount: number;
  /** Bottom to top. */
  readonly diffIds: readonly Digest[];

  /** Name to value, in order of first appearance; the last value of a name wins. */
  readonly env: ReadonlyMap<string, string>;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** Absolute and normalised; "/" when the image names none. */
  readonly workingDir: string;
  readonly user: UserSpec;
  /** The user as written. */
  readonly userText: string;
  readonly exposedPorts: readonly ExposedPort[];
  /** Absolute and normalised. Names of places in the guest, never of the host. */
  readonly volumes: readonly string[];
  readonly stopSignal?: StopSignal;
  /** Without the labels that containerd reserves for itself. */
  readonly labels: ReadonlyMap<string, string>;
  readonly healthcheck?: Healthcheck;
  readonly onBuild: readonly string[];
  readonly shell: readonly string[];
  readonly argsEscaped: boolean;

  /** What was dropped or replaced, one sentence each, for the fidelity report. */
  readonly warnings: readonly string[];
}
