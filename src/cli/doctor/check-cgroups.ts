import { ok, warn, type Check } from './check.ts';

export type CgroupMode =
  | { readonly kind: 'unified'; readonly root: string; readonly options: string }
  | { readonly kind: 'hybrid'; readonly root: string }
  | { readonly kind: 'v1' }
  | { readonly kind: 'none' };

interface CgroupMount {
  readonly point: string;
  readonly type: string;
  readonly options: string;
}

/** Reads /proc/self/mountinfo (proc_pid_mountinfo(5)). */
export function parseCgroupMode(mountinfo: string): CgroupMode {
  const mounts = mountinfo.split('\n').flatMap(parseMount);
  const v2 = mounts.find(({ type }) => type === 'cgroup2');
  const v1 = mounts.some(({ type }) => type === 'cgroup');
  if (v2 !== undefined && v1) return { kind: 'hybrid', root: v2.point };
  if (v2 !== undefined) return { kind: 'unified', root: v2.point, options: v2.options };
  return { kind: v1 ? 'v1' : 'none' };
}

function parseMount(line: string): CgroupMount[] {
  const fields = line.split(' ');
  const dash = fields.indexOf('-');
  const type = dash < 0 ? undefined : fields[dash + 1];
  const point = fields[4];
  if (point === undefined || (type !== 'cgroup' && type !== 'cgroup2')) return [];
  return [{ point, type, options: fields[dash + 3] ?? '' }];
}

const NEEDED = ['cpu', 'io', 'memory', 'pids'];
const CONVERT_WORKS =
  'Images can be converted; to run build steps with budgets, boot with cgroup v2 only (systemd.unified_cgroup_hierarchy=1).';

export function checkCgroups(mode: CgroupMode, controllers: string | undefined): Check[] {
  const id = 'cgroup.mode';
  switch (mode.kind) {
    case 'none':
      return [warn(id, 'no cgroups are mounted', CONVERT_WORKS)];
    case 'v1':
      return [warn(id, 'cgroup v1 only', CONVERT_WORKS)];
    case 'hybrid':
      return [
        warn(id, `hybrid: v1 controllers, and v2 at ${mode.root} without limits`, CONVERT_WORKS),
      ];
    case 'unified':
      return [
        ok(id, `cgroup v2 at ${mode.root}`),
        checkControllers(controllers ?? ''),
        checkDelegation(mode.options),
      ];
  }
}

function checkControllers(text: string): Check {
  const id = 'cgroup.controllers';
  const have = text.split(/\s+/).filter((name) => name !== '');
  const missing = NEEDED.filter((name) => !have.includes(name));
  const fact = `controllers: ${have.join(' ') || 'none'}`;
  if (missing.length === 0) return ok(id, fact);
  return warn(
    id,
    `${fact}; missing: ${missing.join(' ')}`,
    'Delegate the missing controllers (Delegate= in the service unit) before you run build steps.',
  );
}

function checkDelegation(options: string): Check {
  const id = 'cgroup.nsdelegate';
  if (options.split(',').includes('nsdelegate')) return ok(id, 'mounted with nsdelegate');
  return warn(
    id,
    'mounted without nsdelegate: a step could raise its own limits',
    'Run `mount -o remount,nsdelegate /sys/fs/cgroup`, or boot with systemd, which does it.',
  );
}
