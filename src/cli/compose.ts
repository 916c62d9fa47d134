import { BuilderdError } from '../core/errors.ts';
import type { ProgressListener } from '../core/progress.ts';
import type { BuildRequest, BuildResult } from '../builds/request.ts';
import { ContainerdClient } from '../runtime/containerd-client.ts';
import type { Config } from './config.ts';

export interface ComposeOptions {
  readonly config: Config;
  readonly containerdAddress: string;
  readonly namespace: string;
  /** The program that becomes /usr/bin/metald-init. */
  readonly guestInit?: Buffer;
}

export interface RunOptions {
  readonly signal: AbortSignal;
  readonly onProgress: ProgressListener;
}

/** Everything that one build needs, joined. */
export interface ComposedBuild {
  run(request: BuildRequest, options: RunOptions): Promise<BuildResult>;
}

/** The one place where adapters are made and joined. */
export function composeBuild(options: ComposeOptions): ComposedBuild {
  return {
    async run(_request, { signal }) {
      using client = await ContainerdClient.connect({ address: options.containerdAddress, signal });
      throw new BuilderdError(
        'not_supported',
        `Cannot build through ${client.address}: the conversion is not joined yet`,
      );
    },
  };
}
