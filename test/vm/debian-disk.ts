import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { constants } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { makeDebianBase } from '../../contrib/dev/debian-base.ts';
import { startPrivateContainerd } from '../../contrib/dev/private-containerd.ts';
import { runProgram } from '../../contrib/dev/run-program.ts';

export const CLI = resolve(import.meta.dirname, '../../src/cli/builderd.mjs');

export interface DebianDiskOptions {
  readonly include?: readonly string[];
  /** As for `--size`. */
  readonly size: string;
  readonly signal: AbortSignal;
}

/** A disk that the real command line built, in a directory that goes with it. */
export interface DebianDisk extends AsyncDisposable {
  readonly dir: string;
  readonly disk: string;
  readonly layoutDir: string;
  /** A writable copy beside it; holes stay holes. */
  copy(name: string): Promise<string>;
}

export async function buildDebianDisk(options: DebianDiskOptions): Promise<DebianDisk> {
  const { signal } = options;
  const base = await makeDebianBase({
    signal,
    ...(options.include === undefined ? {} : { include: options.include }),
  });
  const dir = await mkdtemp(join(tmpdir(), 'builderd-vm-'));
  const remove = (): Promise<void> => rm(dir, { recursive: true, force: true });
  try {
    const disk = join(dir, 'rootfs.ext4');
    await using containerd = await startPrivateContainerd({ dir: join(dir, 'c'), signal });
    const source = `oci:${base.layoutDir}:${base.tag}`;
    const args = ['build', source, '--format', 'ext4', '--size', options.size, '-o', disk];
    await runProgram(
      process.execPath,
      [CLI, ...args, '--containerd-address', containerd.address, '--progress', 'plain'],
      { signal },
    );
    const copy = async (name: string): Promise<string> => {
      await copyFile(disk, join(dir, name), constants.COPYFILE_FICLONE);
      return join(dir, name);
    };
    return { dir, disk, layoutDir: base.layoutDir, copy, [Symbol.asyncDispose]: remove };
  } catch (reason) {
    await remove();
    throw reason;
  }
}

/** Throws with e2fsck's words unless the file system is clean and nothing needs mending. */
export async function checkExt4(disk: string, signal: AbortSignal): Promise<void> {
  await runProgram('e2fsck', ['-fn', '--', disk], { signal });
}

export async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk);
  return `sha256:${hash.digest('hex')}`;
}

/** PID 1 of a guest: runs the script, prints `DONE`, leaves the file system clean, powers off. */
export function scriptInit(script: string): { argv: string[]; env: string[] } {
  const text = `set -eu
trap 'echo "FAILED: $?"; echo o >/proc/sysrq-trigger; sleep 60' EXIT
${script}
sync
mount -o remount,ro /
trap - EXIT
echo DONE
echo o >/proc/sysrq-trigger
sleep 60`;
  return { argv: ['/bin/sh', '-c', text], env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'] };
}
