import { escapeBytes } from '../../core/bytes.ts';
import type { Digest } from '../../core/digest.ts';
import type { ImageConfig } from '../image-config/image-config.ts';
import type { ResolvedUser } from '../image-config/resolve-user.ts';
import { stableJson } from '../image-config/stable-json.ts';

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** /container.cmd: the argv of PID 1's child; a shell when the image names nothing. */
export function containerCmd(config: ImageConfig): Buffer {
  const argv = [...config.entrypoint, ...config.cmd];
  return Buffer.from(stableJson(argv.length === 0 ? ['/bin/sh'] : argv));
}

/** /container.env: the first three keys are the contract of the first builderd, the rest is new. */
export function containerEnv(input: {
  readonly config: ImageConfig;
  readonly user: ResolvedUser;
  readonly imageDigest: Digest;
}): Buffer {
  const { config, user } = input;
  const env = config.env.has('PATH')
    ? config.env
    : new Map([...config.env, ['PATH', DEFAULT_PATH]]);
  return Buffer.from(
    stableJson({
      working_dir: config.workingDir,
      env,
      exposed_ports: exposedNumbers(config),
      // A string: programs that know the first contract expect one under this name.
      user: `${user.uid}:${user.gid}`,
      user_name: user.name === undefined ? undefined : escapeBytes(user.name),
      home: user.home === undefined ? undefined : escapeBytes(user.home),
      additional_gids: user.additionalGids,
      stop_signal: config.stopSignal?.name ?? 'SIGTERM',
      volumes: config.volumes,
      image_digest: input.imageDigest,
    }),
  );
}

/** Numbers without protocol, as texts; each once, though it may be exposed for TCP and UDP. */
function exposedNumbers({ exposedPorts }: ImageConfig): string[] {
  const texts = exposedPorts.map(({ port, lastPort }) =>
    lastPort === port ? `${port}` : `${port}-${lastPort}`,
  );
  return [...new Set(texts)];
}
