import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Type } from 'typebox';
import { Value } from 'typebox/value';

/** An OCI layout on disk with one gzip image; made by us, so a wrong one is a fault of ours. */
export interface Layout {
  readonly dir: string;
  readonly tag: string;
  readonly manifestDigest: string;
  readonly diffIds: readonly string[];
  /** Paths of the compressed layers, bottom to top. */
  readonly layerBlobs: readonly string[];
  readonly blobBytes: number;
}

const Descriptor = Type.Object({ digest: Type.String(), size: Type.Number() });
const Index = Type.Object({ manifests: Type.Array(Descriptor, { minItems: 1, maxItems: 1 }) });
const Manifest = Type.Object({ config: Descriptor, layers: Type.Array(Descriptor) });
const Config = Type.Object({ rootfs: Type.Object({ diff_ids: Type.Array(Type.String()) }) });

export async function readLayout(dir: string, tag: string): Promise<Layout> {
  const blob = (digest: string): string => join(dir, 'blobs', ...digest.split(':'));
  const index = Value.Parse(Index, await readJson(join(dir, 'index.json')));
  const manifestDigest = index.manifests[0]?.digest ?? '';
  const manifest = Value.Parse(Manifest, await readJson(blob(manifestDigest)));
  const config = Value.Parse(Config, await readJson(blob(manifest.config.digest)));
  const layerBlobs = manifest.layers.map((layer) => blob(layer.digest));
  let blobBytes = 0;
  for (const path of layerBlobs) blobBytes += (await stat(path)).size;
  return { dir, tag, manifestDigest, diffIds: config.rootfs.diff_ids, layerBlobs, blobBytes };
}

async function readJson(path: string): Promise<unknown> {
  return JSON.parse(await readFile(path, 'utf8'));
}
