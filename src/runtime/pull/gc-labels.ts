import type { ImageDocument } from '../registry/documents.ts';

/**
 * Labels by which containerd's collector finds what a document refers to. All children of an
 * index are named, also those of other platforms: what is not there is not missed.
 */
export function gcLabels(document: ImageDocument): Readonly<Record<string, string>> {
  const pairs: [string, string][] =
    document.kind === 'index'
      ? document.manifests.map(({ digest }, index) => [
          `containerd.io/gc.ref.content.m.${index}`,
          digest,
        ])
      : [
          ['containerd.io/gc.ref.content.config', document.config.digest],
          ...document.layers.map(({ digest }, index): [string, string] => [
            `containerd.io/gc.ref.content.l.${index}`,
            digest,
          ]),
        ];
  return Object.fromEntries(pairs);
}
