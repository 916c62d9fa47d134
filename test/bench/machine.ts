import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, release, totalmem } from 'node:os';
import { runProgram } from '../../contrib/dev/run-program.ts';

const PACKAGES = [
  ...['containerd', 'umoci', 'skopeo', 'buildah', 'podman', 'e2fsprogs', 'tar', 'docker-registry'],
  ...['libisal2'],
];

/** What the figures depend on, without anything that names the machine. */
export async function describeMachine(dir: string, signal: AbortSignal): Promise<string[]> {
  const os = /^PRETTY_NAME="?([^"\n]+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const find = ['--noheadings', '--output', 'FSTYPE', '--target', dir];
  const fileSystem = await runProgram('findmnt', find, { signal });
  const format = '-f=${Package} ${Version}\n';
  const versions = await runProgram('dpkg-query', ['-W', format, ...PACKAGES], { signal });
  const gib = (totalmem() / 1024 ** 3).toFixed(0);
  return [
    `CPU: ${cpus()[0]?.model ?? 'unknown'}, ${availableParallelism()} cores, ${arch()}`,
    `Memory: ${gib} GiB`,
    `Kernel: ${release()}; ${os ?? 'unknown system'}; outputs on ${fileSystem.trim()}`,
    `Node: ${process.version}`,
    `Debian packages: ${versions.trim().split('\n').join(', ')}`,
  ];
}
