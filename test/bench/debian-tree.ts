import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { aptSetup } from '../../contrib/dev/apt-sources.ts';
import { runProgram } from '../../contrib/dev/run-program.ts';

/** A private apt that sees Debian's own lists only: a third party's nodejs would change a fixture. */
export interface PackageSource {
  /** Downloads the newest versions of the packages and unpacks them over each other into `tree`. */
  unpackInto(tree: string, packages: readonly string[]): Promise<void>;
}

/** Reads the lists of `suite` through the mirror that this machine is configured for. */
export async function openPackageSource(
  suite: string,
  workDir: string,
  signal: AbortSignal,
): Promise<PackageSource> {
  const { lines, options } = await aptSetup(suite, signal);
  const state = join(workDir, 'apt');
  await mkdir(join(state, 'lists', 'partial'), { recursive: true });
  await mkdir(join(state, 'cache', 'archives', 'partial'), { recursive: true });
  await writeFile(join(state, 'sources.list'), `${lines.join('\n')}\n`);
  await writeFile(join(state, 'status'), '');
  const settings = [
    ...options,
    `Dir::Etc::SourceList "${join(state, 'sources.list')}"`,
    'Dir::Etc::SourceParts "/dev/null"',
    `Dir::State "${state}"`,
    `Dir::State::status "${join(state, 'status')}"`,
    `Dir::Cache "${join(state, 'cache')}"`,
    'APT::Sandbox::User "root"',
    'Acquire::Languages "none"',
  ];
  const config = join(state, 'apt.conf');
  await writeFile(config, settings.map((line) => `${line};\n`).join(''));
  const run = (args: readonly string[], cwd: string): Promise<string> =>
    runProgram('apt-get', ['-q', '-c', config, ...args], { cwd, signal });
  await run(['update'], state);
  return {
    async unpackInto(tree, packages) {
      const debs = join(workDir, 'debs');
      for (const name of packages) {
        const dir = join(debs, name);
        await mkdir(dir, { recursive: true });
        await run(['download', name], dir);
        for (const deb of await readdir(dir)) {
          await runProgram('dpkg-deb', ['-x', join(dir, deb), tree], { signal });
        }
      }
    },
  };
}

/** Packs a tree as a layer: sorted, times clamped, with xattrs, sparse files kept sparse. */
export async function packTree(
  tree: string,
  tar: string,
  epoch: number,
  signal: AbortSignal,
): Promise<void> {
  const args = [
    ...['--create', '--sort=name', '--numeric-owner', '--sparse'],
    ...['--format=posix', '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime'],
    ...['--xattrs', '--xattrs-include=*', `--mtime=@${epoch}`, '--clamp-mtime'],
    ...['-C', tree, '-f', tar, '.'],
  ];
  await runProgram('tar', args, { signal, env: { LC_ALL: 'C.UTF-8' } });
}
