import { runProgram } from '../../contrib/dev/run-program.ts';
import { startPrivateContainerd } from '../../contrib/dev/private-containerd.ts';
import { CLI, digestOf } from './debian-disk.ts';

/** Runs inside the guest of other-kernel.test.ts: builds one layout and prints the disk's digest. */
const layoutDir = process.argv[2] ?? '';
const disk = '/tmp/rootfs.ext4';
await using containerd = await startPrivateContainerd({ dir: '/tmp/c' });
const args = ['build', `oci:${layoutDir}:latest`, '--format', 'ext4', '--size', 'min', '-o', disk];
await runProgram(process.execPath, [CLI, ...args, '--containerd-address', containerd.address]);
console.log(`DIGEST ${await digestOf(disk)}`);
