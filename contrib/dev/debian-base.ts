import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type AptSetup, aptSetup, hostSuite } from './apt-sources.ts';
import { cached, cacheKey } from './cache.ts';
import { writeOciLayout } from './oci-layout.ts';
import { runProgram } from './run-program.ts';

export interface DebianBaseOptions {
  /** Where the layout shall lie; without it, it is used in the cache, where nobody writes. */
  readonly dir?: string;
  /** Debian codename; the machine's own by default. */
  readonly suite?: string;
  /** More packages than mmdebstrap's minbase has. */
  readonly include?: readonly string[];
  readonly signal?: AbortSignal;
}

export interface DebianBase {
  /** A directory in the OCI image layout, with one image. */
  readonly layoutDir: string;
  readonly tag: string;
  readonly manifestDigest: string;
}

/** Change it when the recipe below changes, so that old cache entries are not used. */
const RECIPE = '4';
const TAG = 'latest';
/** For a suite that apt has no release file of: equal bytes matter more than true times. */
const FALLBACK_EPOCH = 1_767_225_600; // 2026-01-01

/**
 * What the image runs as its first process: proof that the disk booted into it. A script, so that
 * the dynamic loader and the shell of the image have to work too.
 */
const HELLO_INIT = `#!/bin/sh
. /etc/os-release
line="builderd: hello from PID $$ of $PRETTY_NAME"
# In a virtual machine nobody else opened the console; in a container standard output is it.
if [ "$$" = 1 ] && [ -c /dev/console ]; then echo "$line" >/dev/console; else echo "$line"; fi
mount -t proc proc /proc 2>/dev/null
# Only a machine that was booted for this may be powered off: never the host of a container.
if [ "$$" = 1 ] && grep -qw builderd.poweroff /proc/cmdline; then
  sync
  echo o >/proc/sysrq-trigger
  sleep 60
fi
exit 0
`;

/** Makes a bootable Debian minbase image from the apt mirror that this machine is set up for. */
export async function makeDebianBase(options: DebianBaseOptions = {}): Promise<DebianBase> {
  const signal = options.signal ?? new AbortController().signal;
  const suite = options.suite ?? (await hostSuite(signal));
  const setup = await aptSetup(suite, signal);
  const include = [...new Set(options.include ?? [])].toSorted();
  const key = cacheKey(RECIPE, suite, HELLO_INIT, include.join(','), setup.lines.join('\n'));
  const entry = await cached(`debian-${suite}-${key}`, (staging) =>
    make(staging, suite, include, setup, signal),
  );
  const layoutDir = options.dir ?? entry;
  if (layoutDir !== entry) await cp(entry, layoutDir, { recursive: true, force: true });
  const manifestDigest = await digestIn(layoutDir);
  return { layoutDir, tag: TAG, manifestDigest };
}

async function make(
  staging: string,
  suite: string,
  include: readonly string[],
  setup: AptSetup,
  signal: AbortSignal,
): Promise<void> {
  const tar = join(staging, 'root.tar');
  const init = join(staging, 'hello-init');
  await writeFile(init, HELLO_INIT);
  const epoch = setup.releaseEpoch ?? FALLBACK_EPOCH;
  const args = [
    ...['--variant=minbase', '--format=tar', '--quiet'],
    ...(process.getuid?.() === 0 ? ['--mode=root'] : ['--mode=unshare']),
    ...setup.options.map((option) => `--aptopt=${option}`),
    ...(include.length > 0 ? [`--include=${include.join(',')}`] : []),
    `--customize-hook=install -D -m 755 ${shellQuote(init)} "$1/usr/local/bin/hello-init"`,
    ...[suite, tar, ...setup.lines],
  ];
  // With this set, mmdebstrap sorts the tar and clamps its times.
  const env = { SOURCE_DATE_EPOCH: String(epoch), LC_ALL: 'C.UTF-8' };
  await runProgram('mmdebstrap', args, { signal, env });
  await writeOciLayout({
    dir: staging,
    tag: TAG,
    layerTars: [tar],
    config: {
      Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      Entrypoint: ['/usr/local/bin/hello-init'],
    },
    createdEpoch: epoch,
    signal,
  });
  await rm(tar);
  await rm(init);
}

async function digestIn(layoutDir: string): Promise<string> {
  const index: unknown = JSON.parse(await readFile(join(layoutDir, 'index.json'), 'utf8'));
  const digest = /"digest":"(sha256:[0-9a-f]{64})"/.exec(JSON.stringify(index))?.[1];
  if (digest === undefined) throw new Error(`Cannot use ${layoutDir}: its index names no image`);
  return digest;
}

/** mmdebstrap hands hooks to a shell; the cache may lie under any name. */
function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
