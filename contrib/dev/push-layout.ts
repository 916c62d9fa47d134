import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

export interface PushOptions {
  /** A directory in the OCI image layout. */
  readonly layoutDir: string;
  /** Which entry of the layout's index.json; the only one when absent. */
  readonly layoutTag?: string;
  /** `host:port` of a registry that the caller started. */
  readonly registry: string;
  readonly repository: string;
  readonly tag: string;
  readonly auth?: { readonly user: string; readonly password: string };
  /** HTTPS with this CA (PEM text); plain HTTP when absent. */
  readonly ca?: string;
  readonly signal?: AbortSignal;
}

interface Entry {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

const MANIFEST_TYPES = new Set([
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]);
const INDEX_TYPES = new Set([
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
]);

/**
 * Pushes one image of an OCI layout to a development registry: blobs first, the tag last.
 * For layouts that we made ourselves; it trusts what it reads. Returns the pushed digest.
 */
export async function pushLayout(options: PushOptions): Promise<string> {
  const root = chooseRoot(await readJson(join(options.layoutDir, 'index.json')), options.layoutTag);
  await pushTree(options, root, options.tag);
  return root.digest;
}

async function pushTree(options: PushOptions, entry: Entry, name: string): Promise<void> {
  const document = await readJson(blobPath(options, entry.digest));
  if (INDEX_TYPES.has(entry.mediaType)) {
    for (const child of entriesOf(document['manifests'])) {
      await pushTree(options, child, child.digest);
    }
  } else if (MANIFEST_TYPES.has(entry.mediaType)) {
    const blobs = [...entriesOf([document['config']]), ...entriesOf(document['layers'])];
    for (const blob of new Map(blobs.map((each) => [each.digest, each])).values()) {
      await pushBlob(options, blob);
    }
  } else {
    throw new Error(`Cannot push ${entry.digest}: media type ${entry.mediaType}`);
  }
  await call(options, 'PUT', `/v2/${options.repository}/manifests/${name}`, [201], {
    headers: { 'content-type': entry.mediaType, 'content-length': entry.size },
    body: createReadStream(blobPath(options, entry.digest)),
  });
}

async function pushBlob(options: PushOptions, blob: Entry): Promise<void> {
  const base = `/v2/${options.repository}/blobs`;
  const known = await call(options, 'HEAD', `${base}/${blob.digest}`, [200, 404]);
  if (known.statusCode === 200) return;
  const started = await call(options, 'POST', `${base}/uploads/`, [202]);
  const location = new URL(started.headers.location ?? '', origin(options));
  location.searchParams.set('digest', blob.digest);
  await call(options, 'PUT', `${location.pathname}${location.search}`, [201], {
    headers: { 'content-type': 'application/octet-stream', 'content-length': blob.size },
    body: createReadStream(blobPath(options, blob.digest)),
  });
}

async function call(
  options: PushOptions,
  method: string,
  path: string,
  expected: readonly number[],
  sent: { headers?: Record<string, string | number>; body?: Readable } = {},
): Promise<IncomingMessage> {
  const headers = { ...sent.headers, ...authHeader(options) };
  const init = {
    method,
    headers,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };
  const url = new URL(path, origin(options));
  const request =
    options.ca === undefined
      ? httpRequest(url, init)
      : httpsRequest(url, { ...init, ca: options.ca });
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
  const [response] = await Promise.all([
    answered,
    pipeline(sent.body ?? Readable.from([]), request),
  ]);
  const text = (await response.setEncoding('utf8').toArray()).join('');
  if (!expected.includes(response.statusCode ?? 0)) {
    throw new Error(`Cannot ${method} ${path}: ${response.statusCode} ${text.slice(0, 300)}`);
  }
  return response;
}

function authHeader(options: PushOptions): Record<string, string> {
  if (options.auth === undefined) return {};
  const { user, password } = options.auth;
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
}

function origin(options: PushOptions): string {
  return `${options.ca === undefined ? 'http' : 'https'}://${options.registry}`;
}

function blobPath(options: PushOptions, digest: string): string {
  return join(options.layoutDir, 'blobs', ...digest.split(':'));
}

async function readJson(path: string): Promise<Record<string, unknown>> {
  const value: unknown = JSON.parse(await readFile(path, 'utf8'));
  if (!isObject(value)) throw new Error(`Cannot read ${path}: not a JSON object`);
  return value;
}

function chooseRoot(index: Record<string, unknown>, tag: string | undefined): Entry {
  const manifests = index['manifests'];
  if (!Array.isArray(manifests)) throw new Error('Cannot push the layout: no manifests in it');
  const named = manifests.filter((each: unknown) => tag === undefined || refName(each) === tag);
  const [entry, ...others] = entriesOf(named);
  if (entry === undefined || others.length > 0) {
    throw new Error(`Cannot push the layout: ${named.length} entries match ${tag ?? 'no tag'}`);
  }
  return entry;
}

function refName(entry: unknown): unknown {
  const annotations = isObject(entry) ? entry['annotations'] : undefined;
  return isObject(annotations) ? annotations['org.opencontainers.image.ref.name'] : undefined;
}

function entriesOf(list: unknown): Entry[] {
  if (!Array.isArray(list)) throw new Error('Cannot push the layout: a list is missing');
  return list.map((each: unknown) => {
    if (isObject(each)) {
      const { mediaType, digest, size } = each;
      if (typeof mediaType === 'string' && typeof digest === 'string' && typeof size === 'number') {
        return { mediaType, digest, size };
      }
    }
    throw new Error('Cannot push the layout: a descriptor is not valid');
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
