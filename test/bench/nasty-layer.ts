import { chmod, chown, link, mkdir, open, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { runProgram } from '../../contrib/dev/run-program.ts';

const SPARSE_BYTES = 200_000_000;
/** cap_net_raw=ep as version 2 of `struct vfs_cap_data` (linux/capability.h). */
const NET_RAW_CAPABILITY = '0x0100000200200000000000000000000000000000';

/**
 * Fills `tree` with what real images hold rarely and tools lose easily: hard links, setuid, a file
 * capability, a binary xattr, a device, a fifo, a sparse file, a big uid, a long path, a name that
 * is not UTF-8, a whiteout of `hiddenFile` and an opaque directory over `hiddenDir`.
 */
export async function fillNastyTree(
  tree: string,
  hidden: { readonly file: string; readonly dir: string },
  signal: AbortSignal,
): Promise<void> {
  const at = (name: string): string => join(tree, 'srv/odd', name);
  await mkdir(at('links'), { recursive: true });
  await writeFile(at('original'), 'one inode, many names\n');
  for (let i = 0; i < 200; i += 1) await link(at('original'), at(`links/name-${i}`));

  await writeFile(at('setuid'), '#!/bin/sh\n');
  await chmod(at('setuid'), 0o4755);
  await writeFile(at('capable'), '#!/bin/sh\n');
  await setXattr(at('capable'), 'security.capability', NET_RAW_CAPABILITY, signal);
  await writeFile(at('attributed'), 'user xattr with a NUL\n');
  await setXattr(at('attributed'), 'user.binary', '0x00ff00017f', signal);
  await runProgram('mknod', [at('device'), 'c', '1', '3'], { signal });
  await runProgram('mkfifo', [at('fifo')], { signal });
  await writeSparse(at('sparse'));
  await writeFile(at('owned'), 'uid and gid of a million\n');
  await chown(at('owned'), 1_000_000, 1_000_000);
  const deep = at(`deep/${'d'.repeat(100)}/${'e'.repeat(100)}/${'f'.repeat(105)}`);
  await mkdir(dirname(deep), { recursive: true });
  await writeFile(deep, 'a path of more than 320 bytes\n');
  await writeFile(Buffer.from(at('caf\xe9'), 'latin1'), 'a name in Latin-1\n');

  const whiteout = join(tree, dirname(hidden.file), `.wh.${hidden.file.split('/').at(-1)}`);
  await mkdir(dirname(whiteout), { recursive: true });
  await writeFile(whiteout, '');
  const opaque = join(tree, hidden.dir);
  await mkdir(opaque, { recursive: true });
  await writeFile(join(opaque, '.wh..wh..opq'), '');
  await writeFile(join(opaque, 'fresh'), 'the only file left here\n');
}

async function setXattr(
  path: string,
  name: string,
  value: string,
  signal: AbortSignal,
): Promise<void> {
  await runProgram('setfattr', ['-n', name, '-v', value, path], { signal });
}

/** Data at the start, in the middle and at the end; holes between. */
async function writeSparse(path: string): Promise<void> {
  await using file = await open(path, 'w');
  await truncate(path, SPARSE_BYTES);
  const block = Buffer.alloc(4096, 'x');
  for (const position of [0, SPARSE_BYTES / 2, SPARSE_BYTES - block.length]) {
    await file.write(block, 0, block.length, position);
  }
}
