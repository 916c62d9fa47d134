import type { OpenFile } from '../../core/open-file.ts';
import type { Compression } from '../../core/oci.ts';

/**
 * How a blob is packed, from its first bytes (RFC 1952 2.3.1; RFC 8878 3.1.1 and 3.1.2): media
 * types lie (A17). Anything else is taken for a plain tar, whose headers carry checksums.
 */
export async function detectCompression(handle: OpenFile): Promise<Compression> {
  const head = Buffer.alloc(4);
  const { bytesRead } = await handle.read(head, 0, 4, 0);
  if (bytesRead >= 2 && head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (bytesRead === 4) {
    const magic = head.readUInt32LE(0);
    if (magic === 0xfd2fb528) return 'zstd';
    if (magic >= 0x184d2a50 && magic <= 0x184d2a5f) return 'zstd';
  }
  return 'plain';
}

/** What a layer media type promises; undefined for one that we do not know. */
export function promisedCompression(mediaType: string): Compression | undefined {
  if (/[.+]zstd$/.test(mediaType)) return 'zstd';
  if (/(?:\+|\.tar\.)gzip$/.test(mediaType)) return 'gzip';
  return mediaType.endsWith('.tar') ? 'plain' : undefined;
}
