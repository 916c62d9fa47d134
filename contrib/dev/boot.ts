import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ArtifactInit, readArtifactInit } from './artifact-init.ts';
import { guestKernel } from './guest-kernel.ts';
import { type GuestRoot, makeInitramfs, POWEROFF_WORD } from './initramfs.ts';
import { type GuestResult, runGuest } from './run-guest.ts';

interface CommonOptions {
  /** The boot has succeeded when the guest's console shows this. */
  readonly expect: string | RegExp;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Each line of the guest's console, without control characters. */
  readonly onLine?: (line: string) => void;
  /** Wait until the guest has powered itself off, after the expected line. */
  readonly untilPowerOff?: boolean;
  readonly memoryMiB?: number;
}

export interface BootDiskOptions extends CommonOptions {
  /** A raw ext4 disk. It is not written to: the guest writes into a temporary overlay. */
  readonly disk: string;
  /** PID 1 of the guest; by default what `<disk>.metadata.json` says that the image runs. */
  readonly init?: ArtifactInit;
  /** Mount the root read-only. */
  readonly readOnly?: boolean;
  /** Let the guest write to the disk itself. For copies only. */
  readonly writeThrough?: boolean;
}

export interface BootHostOptions extends CommonOptions {
  /** PID 1 of the guest, out of this machine's own tree. */
  readonly init: ArtifactInit;
}

export interface BootResult extends GuestResult {
  /** Debian's name of the guest's kernel. */
  readonly kernel: string;
  readonly init: ArtifactInit;
}

const PCI = ['virtio_pci'];
const DISK = [...PCI, 'virtio_blk', 'crc32c_generic', 'ext4'];
const HOST = [...PCI, '9pnet_virtio', '9p', 'overlay'];
const QUIET = ['quiet', 'loglevel=3', POWEROFF_WORD];

/**
 * Boots a disk in QEMU with Debian's kernel until the artifact's own init, as PID 1, has printed
 * the expected line. It runs as root and in `/`, whatever the image config says about both.
 */
export async function bootDisk(options: BootDiskOptions): Promise<BootResult> {
  const init = options.init ?? (await readArtifactInit(`${options.disk}.metadata.json`));
  const root = { kind: 'disk', readOnly: options.readOnly ?? false } as const;
  const file = options.disk.replaceAll(',', ',,'); // QEMU's own escape
  const overlay = options.writeThrough === true ? 'off' : 'on';
  const devices = [
    ...['-drive', `file=${file},format=raw,if=none,id=root,snapshot=${overlay}`],
    ...['-device', 'virtio-blk-pci,drive=root'],
  ];
  return await boot(options, { init, root, modules: DISK, devices });
}

/**
 * Boots this machine's own tree, read-only with a tmpfs over it: another kernel, with unified
 * cgroups, and the same programs, packages and checkout. Nothing that it writes is kept.
 */
export async function bootHost(options: BootHostOptions): Promise<BootResult> {
  const share = 'path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap';
  const devices = ['-virtfs', `local,${share}`];
  return await boot(options, {
    init: options.init,
    root: { kind: 'host' },
    modules: HOST,
    devices,
  });
}

async function boot(
  options: CommonOptions,
  guest: {
    readonly init: ArtifactInit;
    readonly root: GuestRoot;
    readonly modules: readonly string[];
    readonly devices: readonly string[];
  },
): Promise<BootResult> {
  const kernel = await guestKernel({ signal: options.signal });
  const modules = await kernel.modules(guest.modules);
  const dir = await mkdtemp(join(tmpdir(), 'builderd-boot-'));
  try {
    const initramfs = join(dir, 'initramfs');
    await writeFile(initramfs, await makeInitramfs({ ...guest, modules }));
    const result = await runGuest({
      kernel: kernel.vmlinux,
      initramfs,
      kernelWords: QUIET,
      memoryMiB: options.memoryMiB ?? 512,
      devices: guest.devices,
      expect: options.expect,
      untilPowerOff: options.untilPowerOff ?? false,
      timeoutMs: options.timeoutMs,
      signal: options.signal,
      ...(options.onLine === undefined ? {} : { onLine: options.onLine }),
    });
    return { ...result, kernel: kernel.release, init: guest.init };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
