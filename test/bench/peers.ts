import { mkdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { removeMountsUnder } from '../../contrib/dev/mounts-under.ts';
import { runProgram } from '../../contrib/dev/run-program.ts';
import type { Contestant } from './contestant.ts';
import type { Fixture } from './fixtures.ts';
import { coldContainerd } from './ours.ts';
import { ctr, ctrArgv, fetchArguments, referenceOf, sizeOf, type Stage } from './stage.ts';

/** Every peer that turns the image into a tree, a tar or a disk, each from the state it likes best. */
export function imagePeers(stage: Stage, fixture: Fixture): Contestant[] {
  return [
    umociRaw(stage, fixture),
    umociBundle(stage, fixture),
    containerdUnpack(stage, fixture),
    buildahPull(stage, fixture),
    podmanExport(stage, fixture),
    skopeoArchive(stage, fixture),
    umociIntoLoop(stage, fixture),
    containerdPull(stage, fixture),
    skopeoPull(stage, fixture),
  ];
}

const image = (fixture: Fixture): string => `${fixture.dir}:${fixture.tag}`;

function removing(...paths: string[]): () => Promise<void> {
  return async () => {
    for (const path of paths) await rm(path, { recursive: true, force: true });
  };
}

function umociRaw(stage: Stage, fixture: Fixture): Contestant {
  const tree = join(stage.dir, 'umoci-raw');
  return {
    name: 'umoci raw unpack',
    kind: 'unpack',
    fixture: fixture.name,
    ours: false,
    prepare: () =>
      Promise.resolve([{ argv: ['umoci', 'raw', 'unpack', '--image', image(fixture), tree] }]),
    cleanup: removing(tree),
  };
}

function umociBundle(stage: Stage, fixture: Fixture): Contestant {
  const bundle = join(stage.dir, 'umoci-bundle');
  return {
    name: 'umoci unpack',
    kind: 'unpack',
    fixture: fixture.name,
    ours: false,
    prepare: () =>
      Promise.resolve([{ argv: ['umoci', 'unpack', '--image', image(fixture), bundle] }]),
    cleanup: removing(bundle),
  };
}

/** A daemon of its own each time: nothing that an earlier run or fixture unpacked is found again. */
function containerdUnpack(stage: Stage, fixture: Fixture): Contestant {
  const daemon = coldContainerd(stage);
  return {
    name: 'containerd unpack (overlayfs)',
    kind: 'unpack',
    fixture: fixture.name,
    ours: false,
    async prepare() {
      const address = await daemon.start();
      await ctr(stage, address, fetchArguments(referenceOf(stage, fixture)));
      const unpack = ['snapshots', '--snapshotter', 'overlayfs', 'unpack', fixture.manifestDigest];
      return [{ argv: ctrArgv(address, unpack) }];
    },
    daemons: () => daemon.pids(),
    cleanup: () => daemon.stop(),
  };
}

interface ContainerStorage {
  readonly dir: string;
  readonly options: readonly string[];
  /** The tools derive an image's name from the layout's path, which therefore must be plain. */
  readonly source: string;
  reset(): Promise<void>;
  remove(): Promise<void>;
}

function containerStorage(stage: Stage, fixture: Fixture, name: string): ContainerStorage {
  const dir = join(stage.dir, name);
  const places = ['--root', join(dir, 'root'), '--runroot', join(dir, 'run')];
  return {
    dir,
    options: [...places, '--storage-driver', 'overlay'],
    source: `oci:image:${fixture.tag}`,
    async reset() {
      await mkdir(dir);
      await symlink(fixture.dir, join(dir, 'image'));
    },
    async remove() {
      await removeMountsUnder(dir);
      await rm(dir, { recursive: true, force: true });
    },
  };
}

function buildahPull(stage: Stage, fixture: Fixture): Contestant {
  const storage = containerStorage(stage, fixture, 'buildah');
  return {
    name: 'buildah pull (overlay)',
    kind: 'unpack',
    fixture: fixture.name,
    ours: false,
    async prepare() {
      await storage.reset();
      const argv = ['buildah', ...storage.options, 'pull', '--quiet', storage.source] as const;
      return [{ argv: [...argv], cwd: storage.dir }];
    },
    cleanup: () => storage.remove(),
  };
}

function podmanExport(stage: Stage, fixture: Fixture): Contestant {
  const storage = containerStorage(stage, fixture, 'podman');
  const tar = join(storage.dir, 'export.tar');
  const podman = (...args: string[]): [string, ...string[]] => [
    'podman',
    ...storage.options,
    ...args,
  ];
  const { dir: cwd } = storage;
  const name = `localhost/image:${fixture.tag}`;
  return {
    name: 'podman pull + create + export',
    kind: 'tar',
    fixture: fixture.name,
    ours: false,
    async prepare() {
      await storage.reset();
      return [
        { argv: podman('pull', '--quiet', storage.source), cwd },
        { argv: podman('create', '--network', 'none', '--name', 'x', name, '/bin/true'), cwd },
        { argv: podman('export', '--output', tar, 'x'), cwd },
        { argv: ['sync', tar] },
      ];
    },
    inspect: () => sizeOf(tar),
    cleanup: () => storage.remove(),
  };
}

function skopeoArchive(stage: Stage, fixture: Fixture): Contestant {
  const archive = join(stage.dir, 'skopeo.tar');
  const argv = ['skopeo', 'copy', '--quiet', '--insecure-policy'] as const;
  return {
    name: 'skopeo copy to docker-archive (layers unpacked, not merged)',
    kind: 'other',
    fixture: fixture.name,
    ours: false,
    prepare: () =>
      Promise.resolve([
        { argv: [...argv, `oci:${image(fixture)}`, `docker-archive:${archive}:bench:1`] },
        { argv: ['sync', archive] },
      ]),
    inspect: () => sizeOf(archive),
    cleanup: removing(archive),
  };
}

/** As root, a mounted empty disk saves the way through a tree: the shortest way of common tools. */
function umociIntoLoop(stage: Stage, fixture: Fixture): Contestant {
  const dir = join(stage.dir, 'into-loop');
  const disk = join(dir, 'disk');
  const mounted = join(dir, 'mounted');
  return {
    name: 'mkfs.ext4 + loop mount + umoci raw unpack into it (root)',
    kind: 'ext4',
    fixture: fixture.name,
    ours: false,
    async prepare() {
      await mkdir(mounted, { recursive: true });
      await runProgram('truncate', ['--size', '3G', disk], { signal: stage.signal });
      return [
        { argv: ['mkfs.ext4', '-q', '-F', '-O', '^has_journal', '-m', '0', disk] },
        { argv: ['mount', '-o', 'loop', disk, mounted] },
        { argv: ['rmdir', join(mounted, 'lost+found')] },
        { argv: ['umoci', 'raw', 'unpack', '--image', image(fixture), mounted] },
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

function containerdPull(stage: Stage, fixture: Fixture): Contestant {
  const daemon = coldContainerd(stage);
  return {
    name: 'ctr image pull, cold, with its unpack',
    kind: 'cold pull',
    fixture: fixture.name,
    ours: false,
    async prepare() {
      const reference = referenceOf(stage, fixture);
      const pull = ['images', 'pull', '--plain-http', '--snapshotter', 'overlayfs', reference];
      return [{ argv: ctrArgv(await daemon.start(), pull) }];
    },
    daemons: () => daemon.pids(),
    cleanup: () => daemon.stop(),
  };
}

function skopeoPull(stage: Stage, fixture: Fixture): Contestant {
  const out = join(stage.dir, 'skopeo-pull');
  return {
    name: 'skopeo copy from the registry (pull only, nothing unpacked)',
    kind: 'other',
    fixture: fixture.name,
    ours: false,
    prepare: () =>
      Promise.resolve([
        {
          argv: [
            ...([
              'skopeo',
              'copy',
              '--quiet',
              '--insecure-policy',
              '--src-tls-verify=false',
            ] as const),
            `docker://${referenceOf(stage, fixture)}`,
            `oci:${out}:latest`,
          ],
        },
      ]),
    cleanup: removing(out),
  };
}
