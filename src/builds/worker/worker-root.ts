import { readdirSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { BuilderdError, messageOf } from '../../core/errors.ts';
import { findUnreadable } from './find-unreadable.ts';

/** `code` may be executed and mapped, `data` only read, `device` is a node of /dev. */
export interface WorkerMount {
  readonly kind: 'code' | 'data' | 'device';
  readonly source: string;
  readonly target: string;
}

/** The whole file system that a worker sees, besides /proc and an empty /tmp. */
export interface WorkerRoot {
  readonly mounts: readonly WorkerMount[];
  /** Path inside. */
  readonly program: string;
  readonly environment: ReadonlyMap<string, string>;
  /** Node's own directory in the compile cache, for which each worker has another name. */
  readonly cache?: { readonly source: string; readonly prefix: string };
}

export interface WorkerRootOptions {
  /** Must be the program that runs us: its libraries are read off this process. */
  readonly nodePath: string;
  /** The directory that holds src, native, prebuilds and package.json. */
  readonly codeRoot: string;
  /** Shared libraries that are mapped into this process, by the names they were found under. */
  readonly libraries: readonly string[];
  /** V8's compile cache, made by `warmCompileCache` of the same code under the same path. */
  readonly cacheDir?: string;
}

const PROGRAM = '/builderd/node';
const CACHE = '/builderd/cache';
/** As the command line has it (src/cli/builderd.mjs): less memory for no loss. */
export const NODE_FLAGS = ['--max-semi-space-size=4'];
const DEVICES = ['/dev/null', '/dev/urandom'];
/** All that a conversion needs of ours: no npm package is among it. */
const CODE = [
  ['data', 'package.json'],
  ['data', 'src'],
  ['data', 'native/addon.ts'],
  ['code', 'prebuilds'],
] as const;

/**
 * Finds what a worker needs. Throws `host.permission` when its id, which is nobody's, could not
 * read a file: the directories above are never looked at, so the code may lie below /root.
 */
export function describeWorkerRoot(options: WorkerRootOptions): WorkerRoot {
  const { codeRoot, cacheDir } = options;
  const mounts: WorkerMount[] = [
    { kind: 'code', source: realPath(options.nodePath), target: PROGRAM },
    ...options.libraries.map((file) => ({ kind: 'code' as const, source: file, target: file })),
    ...CODE.map(([kind, name]) => {
      const source = path.join(codeRoot, name);
      return { kind, source, target: source };
    }),
    ...DEVICES.map((file) => ({ kind: 'device' as const, source: file, target: file })),
  ];
  const environment = new Map([
    [
      'LD_LIBRARY_PATH',
      [...new Set(options.libraries.map((file) => path.dirname(file)))].join(':'),
    ],
  ]);
  const cache = cacheDir === undefined ? undefined : findCache(cacheDir);
  if (cache !== undefined) environment.set('NODE_COMPILE_CACHE', CACHE);
  for (const source of [...mounts.map((mount) => mount.source), ...(cache ? [cache.source] : [])]) {
    const unreadable = findUnreadable(realPath(source));
    if (unreadable === undefined) continue;
    throw new BuilderdError(
      'host.permission',
      `Cannot start workers: ${unreadable} is not readable for everyone (chmod o+rX)`,
    );
  }
  const root = { mounts, program: PROGRAM, environment };
  return cache === undefined ? root : { ...root, cache };
}

export function workerEntry(codeRoot: string): string {
  return path.join(codeRoot, 'src/cli/worker-main.ts');
}

/** The root of the worker with this id. */
export function rootFor(root: WorkerRoot, id: number): WorkerRoot {
  if (root.cache === undefined) return root;
  const { source, prefix } = root.cache;
  const mount: WorkerMount = { kind: 'data', source, target: `${CACHE}/${prefix}${id}` };
  return { ...root, mounts: [...root.mounts, mount] };
}

/**
 * Node names the directory `<version>-<arch>-<hash>-<uid>`, and would not take another user's.
 * Undefined when a version of Node does it otherwise: slower starts, and nothing else.
 */
function findCache(cacheDir: string): WorkerRoot['cache'] {
  const names = readdirSync(cacheDir);
  const [name] = names;
  const prefix = name === undefined ? undefined : /^(v[\w.-]+-)\d+$/.exec(name)?.[1];
  if (names.length !== 1 || name === undefined || prefix === undefined) return undefined;
  return { source: path.join(cacheDir, name), prefix };
}

/** What this process has mapped (dl_iterate_phdr(3)), by absolute path; addons are not libraries. */
export function loadedLibraries(): string[] {
  // Otherwise the report asks the name service about open connections. Not in @types/node yet.
  Object.assign(process.report, { excludeNetwork: true });
  const report: unknown = process.report.getReport();
  const found =
    typeof report === 'object' && report !== null && 'sharedObjects' in report
      ? report.sharedObjects
      : undefined;
  if (!Array.isArray(found)) {
    throw new BuilderdError('internal', 'Cannot find the libraries that Node uses: no report');
  }
  const names = found.filter((name): name is string => typeof name === 'string');
  return [...new Set(names)].filter(
    (name) => path.isAbsolute(name) && !name.endsWith('.node') && isFile(name),
  );
}

function isFile(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isFile() === true;
}

function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch (reason) {
    throw new BuilderdError('host.unsupported', `Cannot start workers: ${messageOf(reason)}`, {
      cause: reason,
    });
  }
}
