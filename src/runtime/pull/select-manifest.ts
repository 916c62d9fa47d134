import type { Digest } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Descriptor, Platform } from '../../core/oci.ts';
import {
  type ImageConfig,
  type ImageDocument,
  type ImageManifest,
  type IndexEntry,
  isIndexType,
  isManifestType,
  MAX_DESCRIPTORS,
  MAX_INDEX_DEPTH,
  parseImageConfig,
  parseImageDocument,
} from '../registry/documents.ts';
import { formatPlatform, normalizePlatform, platformDistance } from '../registry/platform.ts';

/** A document with its parsed form and the bytes that were verified. */
export interface ReadDocument {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
  readonly document: ImageDocument;
}

export interface SelectedImage {
  /** From the target down to the manifest, both included. */
  readonly path: readonly ReadDocument[];
  readonly manifest: ReadDocument & { readonly document: ImageManifest };
  readonly configBytes: Buffer;
  readonly config: ImageConfig;
}

export interface DocumentReader {
  /** A manifest or an index, verified. */
  document(descriptor: Descriptor): Promise<Buffer>;
  /** An image config, verified. */
  config(descriptor: Descriptor): Promise<Buffer>;
}

/** Documents that one selection reads at most, whatever an index claims. */
const MAX_DOCUMENTS = 32;

/**
 * Walks from the target to the manifest that serves the platform best. Attestations
 * (unknown/unknown) are passed over; descriptors without a platform are judged by their config.
 * Throws `image.platform_mismatch` with the platforms offered, and what parsing throws.
 */
export async function selectManifest(
  target: Descriptor,
  wanted: Platform,
  reader: DocumentReader,
): Promise<SelectedImage> {
  const walk = new Walk(reader);
  const root = await walk.read(target);
  if (root.document.kind === 'manifest') {
    const image = await walk.image([root]);
    if (platformDistance(wanted, image.config.platform) !== undefined) return image;
    throw mismatch(wanted, [image.config.platform]);
  }
  await walk.collect([root], 1);
  const ranked = walk.candidates
    .map((each) => ({ ...each, distance: distanceOf(each.entry, wanted) }))
    .filter((each) => each.distance !== undefined)
    .sort((a, b) => (a.distance ?? 0) - (b.distance ?? 0));
  const [best] = ranked;
  if (best !== undefined) return walk.imageFor(best, wanted);
  return walk.firstByConfig(wanted);
}

interface Candidate {
  readonly path: readonly ReadDocument[];
  readonly entry: IndexEntry;
}

class Walk {
  readonly candidates: Candidate[] = [];
  readonly #reader: DocumentReader;
  readonly #visited = new Set<Digest>();
  readonly #read = new Set<Digest>();
  #entries = 0;

  constructor(reader: DocumentReader) {
    this.#reader = reader;
  }

  async read(descriptor: Descriptor): Promise<ReadDocument> {
    this.#read.add(descriptor.digest);
    if (this.#read.size > MAX_DOCUMENTS) {
      throw new BuilderdError(
        'source.too_large',
        `Cannot use the image index: it needs more than ${MAX_DOCUMENTS} documents to be read`,
      );
    }
    const bytes = await this.#reader.document(descriptor);
    return { descriptor, bytes, document: parseImageDocument(bytes, descriptor.mediaType) };
  }

  /** Gathers the manifests below an index. An index that is met again is not entered again. */
  async collect(path: readonly ReadDocument[], depth: number): Promise<void> {
    const index = path.at(-1);
    if (index?.document.kind !== 'index' || this.#visited.has(index.descriptor.digest)) return;
    this.#visited.add(index.descriptor.digest);
    this.#entries += index.document.manifests.length;
    if (this.#entries > MAX_DESCRIPTORS) {
      throw new BuilderdError(
        'source.too_large',
        `Cannot use the image index: it lists more than ${MAX_DESCRIPTORS} manifests`,
      );
    }
    for (const entry of index.document.manifests) {
      if (isAttestation(entry)) continue;
      if (isManifestType(entry.mediaType)) this.candidates.push({ path, entry });
      if (!isIndexType(entry.mediaType) || this.#visited.has(entry.digest)) continue;
      if (depth >= MAX_INDEX_DEPTH) {
        throw new BuilderdError(
          'source.invalid',
          `Cannot use the image index: it is nested deeper than ${MAX_INDEX_DEPTH}`,
        );
      }
      await this.collect([...path, await this.read(entry)], depth + 1);
    }
  }

  async image(path: readonly ReadDocument[]): Promise<SelectedImage> {
    const last = path.at(-1);
    if (last?.document.kind !== 'manifest') {
      throw new BuilderdError(
        'source.invalid',
        'Cannot use the image: an index is described as a manifest',
      );
    }
    const document = last.document;
    const configBytes = await this.#reader.config(document.config);
    const config = parseImageConfig(configBytes, document.layers.length);
    return { path, manifest: { ...last, document }, configBytes, config };
  }

  /** The index chose it; its config must agree on what it is. */
  async imageFor(candidate: Candidate, wanted: Platform): Promise<SelectedImage> {
    const image = await this.image([...candidate.path, await this.read(candidate.entry)]);
    const [config, index] = [image.config.platform, candidate.entry.platform].map((each) =>
      each === undefined ? undefined : normalizePlatform(each),
    );
    if (config?.os === index?.os && config?.architecture === index?.architecture) return image;
    throw mismatch(wanted, [image.config.platform], 'the index and the image config disagree');
  }

  async firstByConfig(wanted: Platform): Promise<SelectedImage> {
    const offered = this.candidates.flatMap(({ entry }) => entry.platform ?? []);
    for (const { path, entry } of this.candidates) {
      if (entry.platform !== undefined) continue;
      const image = await this.image([...path, await this.read(entry)]);
      if (platformDistance(wanted, image.config.platform) !== undefined) return image;
      offered.push(image.config.platform);
    }
    throw mismatch(wanted, offered);
  }
}

function distanceOf(entry: IndexEntry, wanted: Platform): number | undefined {
  return entry.platform === undefined ? undefined : platformDistance(wanted, entry.platform);
}

function isAttestation({ platform }: IndexEntry): boolean {
  return platform?.os === 'unknown' && platform.architecture === 'unknown';
}

function mismatch(wanted: Platform, offered: readonly Platform[], fact?: string): BuilderdError {
  const names = [...new Set(offered.map((each) => formatPlatform(normalizePlatform(each))))];
  const list = names.length === 0 ? 'none' : names.slice(0, 20).join(', ');
  return new BuilderdError(
    'image.platform_mismatch',
    `Cannot use the image for ${formatPlatform(wanted)}: ${fact ?? 'it has no such platform'}; offered: ${list}`,
  );
}
