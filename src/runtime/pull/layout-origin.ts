import { join } from 'node:path';
import { BuilderdError } from '../../core/errors.ts';
import type { Descriptor } from '../../core/oci.ts';
import { requireDigest } from '../registry/document-digest.ts';
import { blobPathOf, MAX_DOCUMENT_BYTES, requireDocumentSize } from '../registry/documents.ts';
import type { ImageOrigin, OriginCall } from './image-origin.ts';
import { checkLayoutMarker, chooseLayoutEntry } from './layout-index.ts';
import { openLocalFile, readRange, readWhole } from './local-file.ts';

/** A directory in the OCI image layout. Its content is hostile; its path is the caller's word. */
export function openLayoutOrigin(path: string, tag: string | undefined): ImageOrigin {
  return {
    reference: `oci:${path}${tag === undefined ? '' : `:${tag}`}`,
    labels: {},
    async resolve(call) {
      checkLayoutMarker(await readSmall(join(path, 'oci-layout'), 'the oci-layout file', call));
      return chooseLayoutEntry(await readSmall(join(path, 'index.json'), 'index.json', call), tag);
    },
    async document(descriptor, call) {
      requireDocumentSize(descriptor, descriptor.digest);
      const what = `blob ${descriptor.digest} of the layout`;
      const bytes = await readSmall(join(path, 'blobs', blobPathOf(descriptor.digest)), what, call);
      requireSize(descriptor, bytes.length);
      requireDigest(descriptor.digest, bytes, 'the image manifest');
      return bytes;
    },
    async *blob(descriptor, offset, call) {
      const what = `blob ${descriptor.digest} of the layout`;
      await using file = await openLocalFile(
        join(path, 'blobs', blobPathOf(descriptor.digest)),
        what,
      );
      requireSize(descriptor, file.size);
      yield* readRange(file, offset, descriptor.size, call);
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

export function requireSize(descriptor: Descriptor, size: number): void {
  if (size === descriptor.size) return;
  throw new BuilderdError(
    'source.size_mismatch',
    `Cannot read ${descriptor.digest}: the source has ${size} bytes, promised were ${descriptor.size}`,
  );
}

async function readSmall(path: string, what: string, call: OriginCall): Promise<Buffer> {
  await using file = await openLocalFile(path, what);
  return await readWhole(file, { start: 0, size: file.size }, MAX_DOCUMENT_BYTES, what, call);
}
