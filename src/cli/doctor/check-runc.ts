import { ok, warn, type Check } from './check.ts';
import { findTool, runTool, type ToolCall } from './run-tool.ts';
import { FLOORS, formatVersion, meetsFloor, parseVersion } from './version-floor.ts';

/** runc runs build steps; converting an image needs none. */
export async function checkRunc(call: ToolCall): Promise<Check[]> {
  const file = await findTool('runc', call);
  if (file === undefined) {
    return [warn('runc.version', 'runc is not in $PATH', 'Install runc; build steps need it.')];
  }
  const version = (await runTool(file, ['--version'], call)) ?? '';
  // Stable since 1.2, experimental in 1.1; anything else gives no JSON and is reported so.
  const features = await runTool(file, ['features'], call);
  return [checkRuncVersion(version), checkRuncFeatures(features)];
}

export function checkRuncVersion(text: string): Check {
  const id = 'runc.version';
  const version = parseVersion(text);
  if (version === undefined) {
    return warn(id, 'runc does not tell its version', 'Compare it with the floor by hand.');
  }
  const shown = formatVersion(version);
  if (meetsFloor(version, FLOORS.runc)) return ok(id, `runc ${shown}`);
  return warn(
    id,
    `runc ${shown} is below the floor (1.3.6, 1.4.3 or 1.5.0: CVE-2026-41579 and others)`,
    'Upgrade runc, or check that your distribution has the fixes in this version.',
  );
}

export function checkRuncFeatures(text: string | undefined): Check {
  const id = 'runc.features';
  const facts = text === undefined ? undefined : parseFeatures(text);
  if (facts === undefined) {
    return warn(id, '`runc features` gives no answer', 'Upgrade runc to 1.2 or later.');
  }
  return ok(id, facts);
}

function parseFeatures(text: string): string | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  const yes = (path: readonly string[]): string => (at(parsed, path) === true ? 'yes' : 'no');
  if (at(parsed, ['linux']) === undefined) return undefined;
  return [
    `cgroup v2: ${yes(['linux', 'cgroup', 'v2'])}`,
    `seccomp: ${yes(['linux', 'seccomp', 'enabled'])}`,
    `id-mapped mounts: ${yes(['linux', 'mountExtensions', 'idmap', 'enabled'])}`,
  ].join('; ');
}

function at(value: unknown, path: readonly string[]): unknown {
  let here = value;
  for (const key of path) {
    if (typeof here !== 'object' || here === null || !Object.hasOwn(here, key)) return undefined;
    here = (here as Readonly<Record<string, unknown>>)[key];
  }
  return here;
}
