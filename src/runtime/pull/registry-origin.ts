import { formatReference, type ImageReference } from '../registry/reference.ts';
import { openRepository, type RegistryDeps } from '../registry/registry-client.ts';
import type { ImageOrigin, OriginCall } from './image-origin.ts';

export async function openRegistryOrigin(
  deps: RegistryDeps,
  reference: ImageReference,
  call: OriginCall,
): Promise<ImageOrigin> {
  const repository = await openRepository(deps, reference, call);
  return {
    reference: formatReference(reference),
    labels: {
      [`containerd.io/distribution.source.${reference.registry}`]: reference.repository,
    },
    resolve: (each) => repository.resolve(each),
    document: (descriptor, each) => repository.document(descriptor, each),
    blob: (descriptor, offset, each) => repository.blob(descriptor, offset, each),
    // Connections belong to the dialer; logins end with the repository client.
    [Symbol.asyncDispose]: async () => undefined,
  };
}
