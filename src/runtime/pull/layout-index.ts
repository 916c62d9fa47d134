import { BuilderdError } from '../../core/errors.ts';
import type { Descriptor } from '../../core/oci.ts';
import { OCI_INDEX, parseImageDocument } from '../registry/documents.ts';
import { isJsonObject, parseStrictJson } from '../../core/strict-json.ts';

/** Checks the `oci-layout` marker file. */
export function checkLayoutMarker(bytes: Buffer): void {
  const marker = parseStrictJson(bytes, 'the oci-layout file');
  const version = isJsonObject(marker) ? marker.get('imageLayoutVersion') : undefined;
  if (version === '1.0.0') return;
  throw new BuilderdError(
    'source.unsupported',
    'Cannot read the image layout: its version is not 1.0.0',
  );
}

/**
 * The entry of a layout's index.json that the tag names, or the only one. A tag matches the whole
 * reference name or what follows its last colon.
 */
export function chooseLayoutEntry(bytes: Buffer, tag: string | undefined): Descriptor {
  const index = parseImageDocument(bytes, OCI_INDEX);
  if (index.kind !== 'index')
    throw new BuilderdError('source.invalid', 'Cannot read index.json: it is no index');
  const found = index.manifests.filter(
    ({ refName }) => tag === undefined || refName === tag || refName?.endsWith(`:${tag}`) === true,
  );
  const [first, ...others] = found;
  if (first !== undefined && others.every((each) => each.digest === first.digest)) {
    return { mediaType: first.mediaType, digest: first.digest, size: first.size };
  }
  const names = index.manifests.flatMap(({ refName }) => (refName === undefined ? [] : [refName]));
  const offered =
    names.length === 0 ? 'none has a name' : `it has ${JSON.stringify(names.slice(0, 10))}`;
  throw new BuilderdError(
    'source.not_found',
    tag === undefined
      ? `Cannot choose an image of the layout: it holds ${found.length}; name a tag (${offered})`
      : `Cannot find tag ${JSON.stringify(tag)} in the layout: ${found.length} entries match (${offered})`,
  );
}
