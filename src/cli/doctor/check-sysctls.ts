import { ok, warn, type Check } from './check.ts';

interface SysctlRule {
  /** Dotted, as sysctl(8) writes it. */
  readonly name: string;
  readonly wanted: string;
  readonly good: (value: number) => boolean;
}

const atLeast = (floor: number) => (value: number) => value >= floor;
const exactly = (wanted: number) => (value: number) => value === wanted;

/** security.md 8.4: weaker settings help an attacker who already runs code in a build step. */
export const SYSCTLS: readonly SysctlRule[] = [
  { name: 'kernel.io_uring_disabled', wanted: '2', good: exactly(2) },
  { name: 'kernel.unprivileged_bpf_disabled', wanted: '1 or 2', good: atLeast(1) },
  { name: 'kernel.yama.ptrace_scope', wanted: '1 or more', good: atLeast(1) },
  { name: 'kernel.kptr_restrict', wanted: '2', good: exactly(2) },
  { name: 'kernel.dmesg_restrict', wanted: '1', good: exactly(1) },
  { name: 'vm.unprivileged_userfaultfd', wanted: '0', good: exactly(0) },
  { name: 'fs.protected_symlinks', wanted: '1', good: exactly(1) },
  { name: 'fs.protected_hardlinks', wanted: '1', good: exactly(1) },
  { name: 'fs.protected_fifos', wanted: '1 or 2', good: atLeast(1) },
  { name: 'fs.protected_regular', wanted: '1 or 2', good: atLeast(1) },
];

export function sysctlPath(name: string): string {
  return `/proc/sys/${name.replaceAll('.', '/')}`;
}

export function checkSysctls(values: ReadonlyMap<string, string | undefined>): Check[] {
  return SYSCTLS.map(({ name, wanted, good }) => {
    const id = `sysctl.${name}`;
    const value = values.get(name);
    if (value === undefined) {
      return warn(id, `${name} is not there`, `The kernel lacks it; ${wanted} would be wanted.`);
    }
    if (/^-?\d+$/.test(value) && good(Number(value))) return ok(id, `${name} is ${value}`);
    const setting = `${name}=${wanted.replace(/ .*/, '')}`;
    return warn(id, `${name} is ${value}, want ${wanted}`, `Run \`sysctl -w ${setting}\`.`);
  });
}

/** /proc/swaps: build memory may hold secrets; Firecracker asks for no swap or encrypted swap. */
export function checkSwap(swaps: string | undefined): Check {
  const id = 'host.swap';
  const devices = (swaps ?? '')
    .split('\n')
    .slice(1)
    .map((line) => line.split(/\s+/)[0] ?? '')
    .filter((name) => name !== '');
  const plain = devices.filter((name) => !/^\/dev\/(?:zram|dm-|mapper\/)/.test(name));
  if (plain.length === 0) return ok(id, devices.length === 0 ? 'no swap' : devices.join(', '));
  return warn(
    id,
    `swap on ${plain.join(', ')}`,
    'Use no swap, or an encrypted one: memory of builds may hold secrets.',
  );
}
