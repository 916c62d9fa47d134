import type { BuildSpec } from '../builds/build-spec.ts';
import { checkRuntime } from '../rootfs/image-config/runtime-overrides.ts';
import { parsePairs } from './ctl/command-kit.ts';

type Runtime = NonNullable<NonNullable<BuildSpec['target']>['runtime']>;

/** Options that say what the guest runs, of `builderd build` and of `builderctl build`. */
export interface RawRuntime {
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly workingDir?: string;
  readonly env?: readonly string[];
  readonly expose?: readonly string[];
}

/** Undefined when the image's own words stand. Throws `usage.invalid`, before anything is pulled. */
export function parseRuntime(raw: RawRuntime): Runtime | undefined {
  const { entrypoint, command, workingDir, env, expose } = raw;
  const runtime = {
    ...(entrypoint === undefined ? {} : { entrypoint: [...entrypoint] }),
    ...(command === undefined ? {} : { command: [...command] }),
    ...(workingDir === undefined ? {} : { workingDir }),
    ...(env === undefined ? {} : { env: { ...parsePairs(env, '--env') } }),
    ...(expose === undefined ? {} : { exposedPorts: [...expose] }),
  };
  if (Object.keys(runtime).length === 0) return undefined;
  checkRuntime(runtime);
  return runtime;
}
