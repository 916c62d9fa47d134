import { release } from 'node:os';
import { styleText } from 'node:util';
import { loadConfig, type Config } from '../config.ts';
import type { Io } from '../io.ts';
import { oneLine } from '../print-fault.ts';
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
import type { Check, Verdict } from './check.ts';
import { readText } from './read-text.ts';

export interface DoctorOptions {
  readonly json?: true;
  readonly containerdAddress?: string;
  readonly config?: string;
}

/** Exit code 0 when images can be converted on this host, 3 when not. */
export async function runDoctor(options: DoctorOptions, io: Io): Promise<number> {
  const config = loadConfig(options.config);
  const address = options.containerdAddress ?? config.settings.CONTAINERD_ADDRESS;
  const checks = await examine(config, address, io.signal);
  io.signal.throwIfAborted();
  const convertible = checks.every(({ verdict }) => verdict !== 'fail');
  if (options.json === true) {
    io.stdout.write(`${JSON.stringify({ convertible, checks })}\n`);
  } else {
    io.stdout.write(renderChecks(checks, (verdict, text) => paint(verdict, text)));
    io.stdout.write(`\n${summary(checks)}\n`);
  }
  return convertible ? 0 : 3;
}

async function examine(config: Config, address: string, signal: AbortSignal): Promise<Check[]> {
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

const MARKS: Readonly<Record<Verdict, string>> = { ok: 'ok  ', warn: 'warn', fail: 'FAIL' };

/** One line a check, and a second one with what to do. */
export function renderChecks(
  checks: readonly Check[],
  paint: (verdict: Verdict, text: string) => string,
): string {
  const width = Math.max(...checks.map(({ id }) => id.length));
  return checks
    .map(({ id, verdict, fact, advice }) => {
      const line = `${paint(verdict, MARKS[verdict])}  ${id.padEnd(width)}  ${oneLine(fact)}\n`;
      return advice === undefined ? line : `${line}${' '.repeat(width + 8)}→ ${oneLine(advice)}\n`;
    })
    .join('');
}

function summary(checks: readonly Check[]): string {
  const count = (wanted: Verdict): number =>
    checks.filter(({ verdict }) => verdict === wanted).length;
  const verdict = count('fail') === 0 ? 'can' : 'cannot';
  return `This host ${verdict} convert images: ${count('ok')} ok, ${count('warn')} warnings, ${count('fail')} failures`;
}

function paint(verdict: Verdict, text: string): string {
  const format = { ok: 'green', warn: 'yellow', fail: 'red' } as const;
  return styleText(format[verdict], text);
}
