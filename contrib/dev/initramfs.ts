import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { ArtifactInit } from './artifact-init.ts';
import { type CpioEntry, formatCpio } from './cpio.ts';

/** On the kernel's command line: this machine is ours, so its PID 1 may power it off. */
export const POWEROFF_WORD = 'builderd.poweroff';

export type GuestRoot =
  | { readonly kind: 'disk'; readonly readOnly: boolean }
  /** The host's own tree, read-only over 9p, with a tmpfs over it. */
  | { readonly kind: 'host' };

export interface InitramfsOptions {
  /** Kernel modules in the order of insertion. */
  readonly modules: readonly string[];
  readonly root: GuestRoot;
  readonly init: ArtifactInit;
}

/** An initramfs that mounts the root and becomes its init: `switch_root` in a few lines of shell. */
export async function makeInitramfs(options: InitramfsOptions): Promise<Buffer> {
  const entries: CpioEntry[] = ['bin', 'dev', 'lib', 'proc', 'sys', 'new', 'host', 'over'].map(
    (path) => ({ kind: 'directory', path }),
  );
  entries.push(file('bin/busybox', 0o755, await readFile('/bin/busybox')));
  for (const module of options.modules) {
    entries.push(file(`lib/${basename(module)}`, 0o644, await readFile(module)));
  }
  entries.push(file('init', 0o755, Buffer.from(initScript(options))));
  return formatCpio(entries);
}

function file(path: string, mode: number, data: Buffer): CpioEntry {
  return { kind: 'file', path, mode, data };
}

function initScript({ modules, root, init }: InitramfsOptions): string {
  const env = init.env.map(quote).join(' ');
  const argv = init.argv.map(quote).join(' ');
  return `#!/bin/busybox sh
fail() { echo "initramfs: cannot $1"; /bin/busybox poweroff -f; }
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
${modules.map((each) => `/bin/busybox insmod /lib/${basename(each)} || fail 'insert ${basename(each)}'`).join('\n')}
${root.kind === 'disk' ? mountDisk(root.readOnly) : MOUNT_HOST}
# A root without these directories is fine; it just gets no such mount.
[ -d /new/dev ] && /bin/busybox mount --move /dev /new/dev
[ -d /new/proc ] && /bin/busybox mount --move /proc /new/proc
[ -d /new/sys ] && /bin/busybox mount --move /sys /new/sys
cd /new && /bin/busybox mount --move . / || fail 'change the root'
# What switch_root does, but execvp after the chroot finds a command in the image's own PATH.
exec /bin/busybox env -i ${env} /bin/busybox chroot . ${argv}
`;
}

function mountDisk(readOnly: boolean): string {
  return `tries=0
while [ ! -b /dev/vda ]; do
  tries=$((tries + 1)); [ $tries -gt 200 ] && fail 'find the disk'
  /bin/busybox usleep 50000
done
/bin/busybox mount -t ext4 -o ${readOnly ? 'ro' : 'rw'} /dev/vda /new || fail 'mount the disk'`;
}

const MOUNT_HOST = `/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro hostroot /host || fail 'mount the host'
/bin/busybox mount -t tmpfs over /over
/bin/busybox mkdir /over/upper /over/work
/bin/busybox mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work root /new || fail 'mount the overlay'`;

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
