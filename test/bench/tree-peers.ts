import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { removeMountsUnder } from '../../contrib/dev/mounts-under.ts';
import { runProgram } from '../../contrib/dev/run-program.ts';
import type { Contestant } from './contestant.ts';
import type { ContentSize } from './content-size.ts';
import { sizeOf, type Stage } from './stage.ts';

export interface ReadyTree {
  readonly fixture: string;
  readonly path: string;
  readonly content: ContentSize;
}

/** The second half of the usual way: a ready, cached tree becomes a disk or a tar. */
export function treePeers(stage: Stage, tree: ReadyTree): Contestant[] {
  return [mkfsFromTree(stage, tree), copyIntoLoop(stage, tree), tarOfTree(stage, tree)];
}

/** Enough for mke2fs's own overhead; what is left over stays a hole. */
function diskBytes(tree: ReadyTree): number {
  return Math.ceil(tree.content.bytes * 1.2) + 256 * 1024 ** 2;
}

function mkfsArgv(tree: ReadyTree, ...rest: string[]): [string, ...string[]] {
  const inodes = String(tree.content.inodes + 1024);
  return ['mkfs.ext4', '-q', '-F', '-O', '^has_journal', '-m', '0', '-N', inodes, ...rest];
}

export function mkfsFromTree(stage: Stage, tree: ReadyTree): Contestant {
  const disk = join(stage.dir, 'mkfs.ext4');
  return {
    name: 'mkfs.ext4 -d of the tree',
    kind: 'tree to ext4',
    fixture: tree.fixture,
    ours: false,
    async prepare() {
      await runProgram('truncate', ['--size', String(diskBytes(tree)), disk]);
      return [{ argv: mkfsArgv(tree, '-d', tree.path, disk) }, { argv: ['sync', disk] }];
    },
    /** As its users do it: shrunk to what resize2fs believes is the least. */
    async inspect() {
      await runProgram('e2fsck', ['-fy', disk], { signal: stage.signal });
      await runProgram('resize2fs', ['-M', disk], { signal: stage.signal });
      return sizeOf(disk);
    },
    cleanup: () => rm(disk, { force: true }),
  };
}

function copyIntoLoop(stage: Stage, tree: ReadyTree): Contestant {
  const dir = join(stage.dir, 'copy-loop');
  const disk = join(dir, 'disk');
  const mounted = join(dir, 'mounted');
  return {
    name: 'mkfs.ext4 + loop mount + cp -a of the tree (root)',
    kind: 'tree to ext4',
    fixture: tree.fixture,
    ours: false,
    async prepare() {
      await mkdir(mounted, { recursive: true });
      await runProgram('truncate', ['--size', String(diskBytes(tree)), disk]);
      return [
        { argv: mkfsArgv(tree, disk) },
        { argv: ['mount', '-o', 'loop', disk, mounted] },
        { argv: ['cp', '-a', '--', `${tree.path}/.`, mounted] },
        { argv: ['umount', mounted] },
        { argv: ['sync', disk] },
      ];
    },
    inspect: () => sizeOf(disk),
    async cleanup() {
      await removeMountsUnder(dir);
      await rm(dir, { recursive: true, force: true });
    },
  };
}

function tarOfTree(stage: Stage, tree: ReadyTree): Contestant {
  const tar = join(stage.dir, 'tree.tar');
  return {
    name: 'GNU tar of the tree',
    kind: 'tree to tar',
    fixture: tree.fixture,
    ours: false,
    prepare: () =>
      Promise.resolve([
        {
          argv: [
            ...(['tar', '--create', '--xattrs', '--xattrs-include=*', '--format=posix'] as const),
            ...['--numeric-owner', '--sort=name', '-C', tree.path, '-f', tar, '.'],
          ],
        },
        { argv: ['sync', tar] },
      ]),
    inspect: () => sizeOf(tar),
    cleanup: () => rm(tar, { force: true }),
  };
}
