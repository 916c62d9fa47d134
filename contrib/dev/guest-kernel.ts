import { open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from './cache.ts';
import { runProgram } from './run-program.ts';

export interface GuestKernel {
  /** Debian's name for it, such as 6.1.0-37-amd64. */
  readonly release: string;
  /** The uncompressed ELF kernel: QEMU starts it by PVH, seconds faster than the bzImage. */
  readonly vmlinux: string;
  /** Absolute paths of `wanted` and what they depend on, in the order of insertion. */
  modules(wanted: readonly string[]): Promise<readonly string[]>;
}

/**
 * Debian's generic kernel of this machine's suite, downloaded and unpacked but never installed.
 * The cloud flavour is not used: it has no 9p.
 */
export async function guestKernel({ signal }: { signal: AbortSignal }): Promise<GuestKernel> {
  const { name, version } = await kernelPackage(signal);
  const dir = await cached(`kernel-${name}_${version.replaceAll(':', '%3a')}`, (staging) =>
    unpack(staging, name, version, signal),
  );
  const release = name.replace('linux-image-', '');
  const order = await readModuleOrder(join(dir, 'lib/modules', release));
  return {
    release,
    vmlinux: join(dir, 'vmlinux'),
    modules: (wanted) => Promise.resolve(inOrder(order, wanted)),
  };
}

async function kernelPackage(signal: AbortSignal): Promise<{ name: string; version: string }> {
  const meta = 'linux-image-amd64';
  const depends = await runProgram('apt-cache', ['depends', '--important', meta], { signal });
  const name = /Depends: (linux-image-[\w.+-]+)/.exec(depends)?.[1];
  if (name === undefined) throw new Error(`Cannot get a guest kernel: apt does not know ${meta}`);
  const shown = await runProgram('apt-cache', ['show', '--no-all-versions', name], { signal });
  const version = /^Version: (\S+)$/m.exec(shown)?.[1];
  if (version === undefined) throw new Error(`Cannot get a guest kernel: no version of ${name}`);
  return { name, version };
}

async function unpack(
  staging: string,
  name: string,
  version: string,
  signal: AbortSignal,
): Promise<void> {
  // Always name=version: apt-get download takes an unknown bare name as a pattern.
  await runProgram('apt-get', ['download', '-q', `${name}=${version}`], { signal, cwd: staging });
  const deb = (await readdir(staging)).find((each) => each.endsWith('.deb'));
  if (deb === undefined) throw new Error(`Cannot get a guest kernel: apt fetched no ${name}`);
  await runProgram('dpkg', ['-x', join(staging, deb), staging], { signal });
  await rm(join(staging, deb));
  const release = name.replace('linux-image-', '');
  await extractVmlinux(
    join(staging, 'boot', `vmlinuz-${release}`),
    join(staging, 'vmlinux'),
    signal,
  );
  await runProgram('depmod', ['-b', staging, release], { signal });
}

/**
 * Takes the compressed ELF out of a bzImage (Linux Documentation/arch/x86/boot.rst: setup_sects
 * at 0x1f1, payload_offset at 0x248, payload_length at 0x24c).
 */
async function extractVmlinux(vmlinuz: string, out: string, signal: AbortSignal): Promise<void> {
  const image = await readFile(vmlinuz);
  if (image.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    throw new Error(`Cannot unpack ${vmlinuz}: not a bzImage`);
  }
  const start = ((image[0x1f1] ?? 0) + 1) * 512 + image.readUInt32LE(0x248);
  // The last four bytes of the payload are the unpacked length, which xz must not see.
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c) - 4);
  await writeFile(`${out}.xz`, payload);
  await runProgram('xz', ['--decompress', `${out}.xz`], { signal });
  const elf = await open(out);
  try {
    const { buffer } = await elf.read(Buffer.alloc(4), 0, 4, 0);
    if (buffer.toString('latin1') !== '\x7fELF') {
      throw new Error(`Cannot unpack ${vmlinuz}: no ELF in it`);
    }
  } finally {
    await elf.close();
  }
}

/** modules.dep: "path: dependency dependency…", each line already closed over dependencies. */
async function readModuleOrder(dir: string): Promise<Map<string, readonly string[]>> {
  const lines = (await readFile(join(dir, 'modules.dep'), 'utf8')).split('\n');
  const known = new Map<string, readonly string[]>();
  for (const line of lines) {
    const [path = '', rest = ''] = line.split(':');
    const before = rest.split(' ').filter((each) => each !== '');
    known.set(
      moduleName(path),
      // Listed from the nearest to the deepest; insertion goes the other way.
      [path, ...before].toReversed().map((each) => join(dir, each)),
    );
  }
  return known;
}

function inOrder(known: Map<string, readonly string[]>, wanted: readonly string[]): string[] {
  const order = wanted.flatMap((name) => {
    const paths = known.get(name);
    if (paths === undefined) throw new Error(`Cannot boot the guest: the kernel has no ${name}`);
    return paths;
  });
  return [...new Set(order)];
}

function moduleName(path: string): string {
  return (path.split('/').at(-1) ?? '').replace(/\.ko.*$/, '').replaceAll('-', '_');
}
