import { access, constants, stat } from 'node:fs/promises';
import { asBuilderdError } from '../../core/errors.ts';
import { ContainerdClient } from '../../runtime/containerd-client.ts';
import type { RuntimeFeatures, RuntimePlugin } from '../../runtime/runtime-probe.ts';
import { fail, ok, warn, type Check } from './check.ts';
import { FLOORS, meetsFloor, parseVersion } from './version-floor.ts';

/** Asks the daemon itself; everything but reachability is a warning, because converting works. */
export async function checkContainerd(address: string, signal: AbortSignal): Promise<Check[]> {
  let features: RuntimeFeatures;
  try {
    using client = await ContainerdClient.connect({ address, signal });
    features = await client.probe.features({ signal });
  } catch (reason) {
    const fault = asBuilderdError(reason, 'ask containerd');
    return [fail('containerd.reachable', fault.message, fault.entry.hint)];
  }
  return [
    ok('containerd.reachable', `containerd answers on ${address}`),
    checkRuntimeVersion(features.version),
    ...(await checkSocket(address)),
    ...checkSnapshotters(features.snapshotters),
    checkServices(features),
    await checkContentFiles(features.contentRoot),
  ];
}

export function checkRuntimeVersion(text: string): Check {
  const id = 'containerd.version';
  const version = parseVersion(text);
  if (version === undefined) {
    return warn(id, `containerd says its version is ${text}`, 'Compare it with the floor by hand.');
  }
  if (meetsFloor(version, FLOORS.containerd)) return ok(id, `containerd ${text}`);
  return warn(
    id,
    `containerd ${text} is below the floor (1.7.33, 2.1.9, 2.2.5 or 2.3.2: CVE-2026-53488 and others)`,
    'Upgrade containerd, or check that your distribution has the fixes in this version.',
  );
}

/** Who may open the socket is root on this host. */
async function checkSocket(address: string): Promise<Check[]> {
  const id = 'containerd.socket';
  const path = address.replace(/^unix:(?:\/\/)?/, '');
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return [];
  const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
  const fact = `${path} is ${mode}, owner ${found.uid}:${found.gid}`;
  if ((found.mode & 0o006) === 0) return [ok(id, fact)];
  return [warn(id, fact, `Every user of this host can become root: run chmod 0660 ${path}.`)];
}

export function checkSnapshotters(plugins: readonly RuntimePlugin[]): Check[] {
  const id = 'containerd.snapshotters';
  const names = plugins
    .filter(({ fault }) => fault === undefined)
    .map(({ id: name, capabilities }) =>
      capabilities.length === 0 ? name : `${name} (${capabilities.join(', ')})`,
    );
  const fact = names.length === 0 ? 'no snapshotter works' : `snapshotters: ${names.join(', ')}`;
  const overlay = plugins.find(({ id: name }) => name === 'overlayfs');
  if (overlay !== undefined && overlay.fault === undefined) return [ok(id, fact)];
  const why = overlay?.fault === undefined ? 'is not there' : `does not work: ${overlay.fault}`;
  const advice = 'Enable the overlayfs snapshotter; build steps need it, converting does not.';
  return [warn(id, `${fact}; overlayfs ${why}`, advice)];
}

function checkServices({ differs, transfer, mountManager }: RuntimeFeatures): Check {
  return ok(
    'containerd.features',
    `differs: ${differs.join(', ') || 'none'}; transfer service: ${yes(transfer)}; mount manager: ${yes(mountManager)}`,
  );
}

function yes(has: boolean): string {
  return has ? 'yes' : 'no';
}

/** Blobs read as files are about four times as fast as over the socket. */
async function checkContentFiles(root: string | undefined): Promise<Check> {
  const id = 'containerd.content';
  const slow = 'Blobs are read over the socket, which is slower; run as root to read the files.';
  if (root === undefined) return warn(id, 'containerd names no content directory', slow);
  const readable = await access(`${root}/blobs`, constants.R_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
  return readable
    ? ok(id, `blobs can be read as files below ${root}`)
    : warn(id, `${root}/blobs cannot be read by this user`, slow);
}
