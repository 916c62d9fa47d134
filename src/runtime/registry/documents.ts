import { type Digest, digestAlgorithm, digestHex, isDigest } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Compression, Descriptor, Platform } from '../../core/oci.ts';
import {
  isJsonArray,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  parseStrictJson,
} from '../../core/strict-json.ts';

export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;
export const MAX_LAYERS = 127;
export const MAX_DESCRIPTORS = 1000;
export const MAX_INDEX_DEPTH = 3;
const MAX_EMBEDDED_DATA = 64 * 1024;

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
const DOCKER_INDEX = 'application/vnd.docker.distribution.manifest.list.v2+json';
const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json';

export const ACCEPT_DOCUMENTS = [
  DOCKER_MANIFEST,
  DOCKER_INDEX,
  OCI_MANIFEST,
  OCI_INDEX,
  '*/*',
].join(', ');

/** Declared packing: a hint only, the reader goes by the magic. */
const LAYER_TYPES = new Map<string, Compression>([
  [OCI_LAYER, 'plain'],
  [`${OCI_LAYER}+gzip`, 'gzip'],
  [`${OCI_LAYER}+zstd`, 'zstd'],
  ['application/vnd.docker.image.rootfs.diff.tar', 'plain'],
  ['application/vnd.docker.image.rootfs.diff.tar.gzip', 'gzip'],
  ['application/vnd.docker.image.rootfs.diff.tar.zstd', 'zstd'],
]);

export interface ImageManifest {
  readonly kind: 'manifest';
  readonly config: Descriptor;
  /** Bottom to top. */
  readonly layers: readonly Descriptor[];
}

export interface IndexEntry extends Descriptor {
  readonly platform?: Platform;
  /** `org.opencontainers.image.ref.name`, as layouts use it. */
  readonly refName?: string;
}

export interface ImageIndex {
  readonly kind: 'index';
  readonly manifests: readonly IndexEntry[];
}

export type ImageDocument = ImageManifest | ImageIndex;

export interface ImageConfig {
  readonly platform: Platform;
  /** Digests of the uncompressed layers, bottom to top. */
  readonly diffIds: readonly Digest[];
}

/** Digest and size of a document are checked before it is parsed, whoever delivered it. */
export function isDocumentType(mediaType: string): boolean {
  return isIndexType(mediaType) || isManifestType(mediaType);
}

export function isIndexType(mediaType: string): boolean {
  return mediaType === OCI_INDEX || mediaType === DOCKER_INDEX;
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === OCI_MANIFEST || mediaType === DOCKER_MANIFEST;
}

/**
 * Parses a manifest or an index. `mediaType` is what the descriptor or Content-Type said; the
 * document must agree with it in its own mediaType and in its shape (CVE-2021-41190).
 * Throws `source.invalid`, `source.unsupported`, `source.too_large`.
 */
export function parseImageDocument(bytes: Buffer, mediaType: string): ImageDocument {
  const what = 'the image manifest';
  const document = asObject(parseStrictJson(bytes, what), what);
  refuseFoldedNames(
    document,
    ['schemaVersion', 'mediaType', 'manifests', 'layers', 'config', 'fsLayers'],
    what,
  );
  if (document.get('schemaVersion') === 1 || document.has('fsLayers')) {
    throw unsupported(what, 'it is a Docker schema 1 manifest');
  }
  if (document.get('schemaVersion') !== 2) throw invalid(what, 'its schemaVersion is not 2');
  const declared = document.get('mediaType');
  if (declared !== undefined && declared !== mediaType) {
    throw invalid(
      what,
      `it calls itself ${shown(declared)} but was delivered as ${shown(mediaType)}`,
    );
  }
  const looksLikeIndex = document.has('manifests');
  const looksLikeManifest = document.has('layers') || document.has('config');
  if (looksLikeIndex && looksLikeManifest) {
    throw invalid(what, 'it is ambiguous, both a manifest and an index');
  }
  if (isIndexType(mediaType) && !looksLikeManifest) return parseIndex(document);
  if (isManifestType(mediaType) && !looksLikeIndex) return parseManifest(document);
  if (isDocumentType(mediaType))
    throw invalid(what, `it is not what its media type ${shown(mediaType)} says`);
  throw unsupported(what, `its media type is ${shown(mediaType)}`);
}

function parseIndex(document: JsonObject): ImageIndex {
  const what = 'the image index';
  const list = document.get('manifests');
  if (!isJsonArray(list)) throw invalid(what, 'manifests is not a list');
  if (list.length > MAX_DESCRIPTORS) {
    throw new BuilderdError(
      'source.too_large',
      `Cannot use ${what}: it lists ${list.length} manifests, the limit is ${MAX_DESCRIPTORS}`,
    );
  }
  return { kind: 'index', manifests: list.map((each) => parseIndexEntry(each, what)) };
}

function parseIndexEntry(value: JsonValue, what: string): IndexEntry {
  const object = asObject(value, what);
  const descriptor = parseDescriptor(object, what);
  const platform = object.get('platform');
  const annotations = object.get('annotations');
  const refName = isJsonObject(annotations)
    ? annotations.get('org.opencontainers.image.ref.name')
    : undefined;
  return {
    ...descriptor,
    ...(platform === undefined || platform === null
      ? {}
      : { platform: parsePlatformObject(asObject(platform, what), what) }),
    ...(typeof refName === 'string' ? { refName } : {}),
  };
}

function parseManifest(document: JsonObject): ImageManifest {
  const what = 'the image manifest';
  const config = parseDescriptor(document.get('config'), what);
  if (config.mediaType !== OCI_CONFIG && config.mediaType !== DOCKER_CONFIG) {
    throw unsupported(what, `its config is ${shown(config.mediaType)}, not an image config`);
  }
  requireDocumentSize(config, 'the image config');
  const list = document.get('layers');
  if (!isJsonArray(list)) throw invalid(what, 'layers is not a list');
  if (list.length > MAX_LAYERS) {
    throw new BuilderdError(
      'source.too_large',
      `Cannot use ${what}: it has ${list.length} layers, the limit is ${MAX_LAYERS}`,
    );
  }
  return { kind: 'manifest', config, layers: list.map((each) => parseLayer(each, what)) };
}

function parseLayer(value: JsonValue, what: string): Descriptor {
  const object = asObject(value, what);
  const layer = parseDescriptor(object, what);
  const urls = object.get('urls');
  if (urls !== undefined && urls !== null && !(isJsonArray(urls) && urls.length === 0)) {
    throw unsupported(
      what,
      `layer ${layer.digest} is foreign: it names other addresses to fetch it from`,
    );
  }
  if (!LAYER_TYPES.has(layer.mediaType)) {
    throw unsupported(what, `layer ${layer.digest} has the media type ${shown(layer.mediaType)}`);
  }
  return layer;
}

function parseDescriptor(value: JsonValue | undefined, what: string): Descriptor {
  const object = asObject(value, what);
  refuseFoldedNames(
    object,
    ['mediaType', 'digest', 'size', 'urls', 'data', 'platform', 'annotations'],
    what,
  );
  const mediaType = object.get('mediaType');
  const digest = object.get('digest');
  const size = object.get('size');
  if (
    typeof mediaType !== 'string' ||
    mediaType.length > 255 ||
    !/^[\x21-\x7e]+$/.test(mediaType)
  ) {
    throw invalid(what, `a descriptor has the media type ${shown(mediaType)}`);
  }
  if (typeof digest !== 'string' || !isDigest(digest)) {
    throw invalid(what, `a descriptor has the digest ${shown(digest)}`);
  }
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw invalid(what, `descriptor ${digest} has the size ${shown(size)}`);
  }
  const data = object.get('data');
  // Embedded content is never used; only its bound is held.
  if (data !== undefined && (typeof data !== 'string' || data.length > MAX_EMBEDDED_DATA)) {
    throw invalid(what, `descriptor ${digest} embeds more than ${MAX_EMBEDDED_DATA} bytes`);
  }
  return { mediaType, digest, size };
}

/** Refuses before anything is asked for: a document is small, whatever a descriptor claims. */
export function requireDocumentSize(descriptor: Descriptor, what: string): void {
  if (descriptor.size <= MAX_DOCUMENT_BYTES) return;
  throw new BuilderdError(
    'source.too_large',
    `Cannot read ${what}: it would have ${descriptor.size} bytes, the limit is ${MAX_DOCUMENT_BYTES}`,
  );
}

/** Parses an image config as far as the conversion depends on it. Throws `image.bad_config`. */
export function parseImageConfig(bytes: Buffer, layerCount: number): ImageConfig {
  const what = 'the image config';
  const config = asObject(parseStrictJson(bytes, what), what);
  refuseFoldedNames(config, ['os', 'architecture', 'variant', 'rootfs', 'config', 'history'], what);
  const rootfs = config.get('rootfs');
  if (!isJsonObject(rootfs)) throw badConfig('it has no rootfs');
  refuseFoldedNames(rootfs, ['type', 'diff_ids'], what);
  if (rootfs.get('type') !== 'layers')
    throw badConfig(`rootfs.type is ${shown(rootfs.get('type'))}, not "layers"`);
  const list = rootfs.get('diff_ids') ?? [];
  if (!isJsonArray(list)) throw badConfig('rootfs.diff_ids is not a list');
  if (list.length !== layerCount) {
    throw badConfig(`it has ${list.length} diff_ids for ${layerCount} layers`);
  }
  checkProcess(config.get('config'));
  return {
    platform: parsePlatformObject(config, what),
    diffIds: list.map((each) => {
      if (typeof each === 'string' && isDigest(each)) return each;
      throw badConfig(`diff_id ${shown(each)} is not a digest`);
    }),
  };
}

/** Entrypoint, Cmd and Env are handed on to guests: they are lists of NUL-free strings or absent. */
function checkProcess(value: JsonValue | undefined): void {
  if (value === undefined || value === null) return;
  if (!isJsonObject(value)) throw badConfig('config is not an object');
  refuseFoldedNames(
    value,
    ['User', 'Env', 'Entrypoint', 'Cmd', 'WorkingDir', 'Volumes', 'Labels', 'StopSignal'],
    'the image config',
  );
  for (const name of ['Entrypoint', 'Cmd', 'Env']) {
    const list = value.get(name);
    if (list === undefined || list === null) continue;
    if (!isJsonArray(list) || list.length > MAX_STRINGS)
      throw badConfig(`${name} is not a list of at most ${MAX_STRINGS} strings`);
    for (const each of list) {
      if (typeof each !== 'string' || each.includes('\0'))
        throw badConfig(`${name} holds ${shown(each)}`);
    }
  }
}

const MAX_STRINGS = 10_000;

function parsePlatformObject(object: JsonObject, what: string): Platform {
  refuseFoldedNames(object, ['os', 'architecture', 'variant'], what);
  const [os, architecture, variant] = ['os', 'architecture', 'variant'].map(
    (name) => object.get(name) ?? '',
  );
  if (!isWord(os) || !isWord(architecture) || !isWord(variant))
    throw invalid(what, 'its platform is not valid');
  return { os, architecture, ...(variant === '' ? {} : { variant }) };
}

function isWord(value: JsonValue | undefined): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9_.-]{0,64}$/.test(value);
}

/** Go takes `Layers` for `layers` when that is the only one; we read the exact name: so refuse it. */
function refuseFoldedNames(object: JsonObject, names: readonly string[], what: string): void {
  const folded = new Map(names.map((name) => [name.toLowerCase(), name]));
  for (const key of object.keys()) {
    const name = folded.get(key.toLowerCase().replaceAll('\u017f', 's'));
    if (name !== undefined && name !== key)
      throw invalid(what, `it spells ${name} as ${shown(key)}`);
  }
}

function asObject(value: JsonValue | undefined, what: string): JsonObject {
  if (isJsonObject(value)) return value;
  throw invalid(what, 'an object is missing');
}

/** `algorithm/hex`: the name of a blob below `blobs/` of an image layout. */
export function blobPathOf(digest: Digest): string {
  return `${digestAlgorithm(digest)}/${digestHex(digest)}`;
}

function shown(value: JsonValue | undefined): string {
  return JSON.stringify(value)?.slice(0, 100) ?? 'nothing';
}

function invalid(what: string, fact: string): BuilderdError {
  return new BuilderdError('source.invalid', `Cannot use ${what}: ${fact}`);
}

function unsupported(what: string, fact: string): BuilderdError {
  return new BuilderdError('source.unsupported', `Cannot use ${what}: ${fact}`);
}

function badConfig(fact: string): BuilderdError {
  return new BuilderdError('image.bad_config', `Cannot use the image config: ${fact}`);
}
