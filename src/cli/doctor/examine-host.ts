import { release } from 'node:os';
import type { Config } from '../config.ts';
import { checkCgroups, parseCgroupMode } from './check-cgroups.ts';
import { checkContainerd } from './check-containerd.ts';
import { checkDisks } from './check-disk.ts';
import {
  checkIdMappedOverlay,
  checkKernelVersion,
  checkSeccomp,
  checkUserNamespaces,
} from './check-kernel.ts';
import { checkNode } from './check-node.ts';
import { checkRunc } from './check-runc.ts';
import { checkSwap, checkSysctls, SYSCTLS, sysctlPath } from './check-sysctls.ts';
import { checkTools } from './check-tools.ts';
import type { Check } from './check.ts';
import { readText } from './read-text.ts';

/** Everything that a host can have or lack, checked once. */
export async function examineHost(
  config: Config,
  address: string,
  signal: AbortSignal,
): Promise<Check[]> {
  const call = { searchPath: config.searchPath, signal };
  const { settings } = config;
  const groups = await Promise.all([
    checkContainerd(address, signal),
    checkRunc(call),
    examineKernel(signal),
    examineCgroups(signal),
    checkTools(call),
    checkDisks([
      { name: 'SCRATCH_DIR', path: settings.SCRATCH_DIR },
      { name: 'ROOTFS_OUTPUT_DIR', path: settings.ROOTFS_OUTPUT_DIR },
      { name: 'WORKSPACE_DIR', path: settings.WORKSPACE_DIR },
      { name: 'CACHE_DIR', path: settings.CACHE_DIR },
    ]),
    examineSysctls(signal),
  ]);
  return [...checkNode(process.versions.node), ...groups.flat()];
}

async function examineKernel(signal: AbortSignal): Promise<Check[]> {
  const version = release();
  return [
    checkKernelVersion(version),
    checkUserNamespaces({
      max: await readText('/proc/sys/user/max_user_namespaces', signal),
      debianClone: await readText(sysctlPath('kernel.unprivileged_userns_clone'), signal),
      appArmor: await readText(sysctlPath('kernel.apparmor_restrict_unprivileged_userns'), signal),
      isRoot: process.getuid?.() === 0,
    }),
    checkIdMappedOverlay(await readText('/proc/filesystems', signal), version),
    checkSeccomp(await readText('/proc/sys/kernel/seccomp/actions_avail', signal)),
  ];
}

async function examineCgroups(signal: AbortSignal): Promise<Check[]> {
  const mode = parseCgroupMode((await readText('/proc/self/mountinfo', signal)) ?? '');
  const controllers =
    mode.kind === 'unified' ? await readText(`${mode.root}/cgroup.controllers`, signal) : undefined;
  return checkCgroups(mode, controllers);
}

async function examineSysctls(signal: AbortSignal): Promise<Check[]> {
  const values = await Promise.all(
    SYSCTLS.map(async ({ name }) => [name, await readText(sysctlPath(name), signal)] as const),
  );
  const swaps = await readText('/proc/swaps', signal);
  return [...checkSysctls(new Map(values)), checkSwap(swaps)];
}
