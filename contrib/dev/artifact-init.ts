import { readFile } from 'node:fs/promises';

/** What becomes PID 1, and its environment as `NAME=value`. */
export interface ArtifactInit {
  readonly argv: readonly string[];
  readonly env: readonly string[];
}

/** Takes Entrypoint, Cmd and Env out of the metadata that `builderd build` writes beside a disk. */
export async function readArtifactInit(metadataFile: string): Promise<ArtifactInit> {
  const metadata: unknown = JSON.parse(await readFile(metadataFile, 'utf8'));
  return parseArtifactInit(metadata, metadataFile);
}

export function parseArtifactInit(metadata: unknown, what: string): ArtifactInit {
  const config = field(metadata, 'config');
  const argv = [...strings(config, 'Entrypoint'), ...strings(config, 'Cmd')];
  if (argv.length === 0) throw new Error(`Cannot boot: ${what} names no Entrypoint and no Cmd`);
  return { argv, env: strings(config, 'Env') };
}

function strings(value: unknown, name: string): string[] {
  const list = field(value, name);
  return Array.isArray(list) ? list.filter((each) => typeof each === 'string') : [];
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
  return Object.entries(value).find(([key]) => key === name)?.[1];
}
