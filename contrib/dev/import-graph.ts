import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';

/** Source files by their path from the root, with `/` between the parts. */
export type SourceFiles = ReadonlyMap<string, string>;

/** The rooms of the house, from the ground up; a room may import only from rows before its own. */
const FLOORS: readonly (readonly string[])[] = [
  ['core'],
  ['egress', 'tar', 'native'],
  ['sources', 'runtime', 'cgroups', 'rootfs', 'store'],
  ['builds'],
  ['api'],
  // The composition root: it also starts the API.
  ['cli'],
];

export function readSources(root: string, folders: readonly string[]): SourceFiles {
  const files = new Map<string, string>();
  for (const folder of folders) {
    for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/\.(?:ts|mjs|c|h|proto)$/.test(entry.name)) continue;
      const path = join(entry.parentPath, entry.name);
      files.set(path.slice(root.length + 1), readFileSync(path, 'utf8'));
    }
  }
  return files;
}

/** What a module imports: static, side-effect, re-export and dynamic, types included. */
export function importsOf(text: string): string[] {
  const patterns = [
    /^[ \t]*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm,
    /^[ \t]*import\s*['"]([^'"]+)['"]/gm,
    /\bimport\s*\(\s*['"]([^'"]+)['"]/g,
  ];
  return patterns.flatMap((pattern) =>
    Array.from(text.matchAll(pattern), (match) => match[1] ?? ''),
  );
}

/** Each import as `file -> target`, when the target is one of ours. */
function edgesOf(files: SourceFiles): [from: string, to: string][] {
  return [...files].flatMap(([from, text]) =>
    importsOf(text)
      .filter((target) => target.startsWith('.'))
      .map((target): [string, string] => [from, posix.join(dirname(from), target)]),
  );
}

/** Imports that point up or sideways, each as a sentence. */
export function findArrowFaults(files: SourceFiles): string[] {
  return edgesOf(files).flatMap(([from, to]) => {
    const [own, other] = [roomOf(from), roomOf(to)];
    if (own === other) return [];
    if (own === undefined) return [];
    if (other === undefined) return [`${from} imports ${to}, which is in no room`];
    const [ownFloor, otherFloor] = [floorOf(own), floorOf(other)];
    if (ownFloor === -1) return [`${from} is in a room that the architecture does not name`];
    return otherFloor !== -1 && otherFloor < ownFloor
      ? []
      : [`${from} imports ${to}: ${own} must not know ${other}`];
  });
}

/** The first import cycle through each file that has one, as `a -> b -> a`. */
export function findCycles(files: SourceFiles): string[] {
  const graph = Map.groupBy(edgesOf(files), ([from]) => from);
  const finished = new Set<string>();
  const cycles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    const seenAt = path.indexOf(file);
    if (seenAt !== -1) {
      cycles.push([...path.slice(seenAt), file].join(' -> '));
      return;
    }
    if (finished.has(file)) return;
    for (const [, to] of graph.get(file) ?? []) visit(to, [...path, file]);
    finished.add(file);
  };
  for (const file of files.keys()) visit(file, []);
  return cycles;
}

function roomOf(path: string): string | undefined {
  const [top, room] = path.split('/');
  if (top === 'native') return 'native';
  return top === 'src' ? room : undefined;
}

function floorOf(room: string): number {
  return FLOORS.findIndex((rooms) => rooms.includes(room));
}
