import { hkdfSync } from 'node:crypto';
import { corrupt } from './store-faults.ts';

/** One X25519 stanza takes 200 bytes; a header that goes on longer is not ours. */
export const MAX_HEADER_BYTES = 1024;
const NONCE_BYTES = 16;

/** The start of an age file, and the key of the payload that follows it. */
export interface AgeHeader {
  /** Length of the header and the nonce together: where the payload begins. */
  readonly length: number;
  readonly payloadKey: Buffer;
}

/** A header for one recipient with a file key of its own, to be written as it is. */
export async function makeAgeHeader(
  recipient: string,
): Promise<AgeHeader & { readonly bytes: Buffer }> {
  const { Encrypter } = await import('age-encryption');
  const encrypter = new Encrypter();
  encrypter.addRecipient(recipient);
  let fileKey: Uint8Array = new Uint8Array();
  encrypter.addRecipient({
    // Adds no stanza: it only looks at the key that the payload needs.
    wrapFileKey: (key) => {
      fileKey = Uint8Array.from(key);
      return [];
    },
  });
  const empty = Buffer.from(await encrypter.encrypt(new Uint8Array()));
  // All but the one empty piece that an empty file ends with.
  const bytes = empty.subarray(0, empty.length - 16);
  const nonce = bytes.subarray(bytes.length - NONCE_BYTES);
  return { bytes, length: bytes.length, payloadKey: payloadKeyOf(fileKey, nonce) };
}

/** Reads the header at the start of `bytes`. Throws `artifact.corrupt`. */
export async function openAgeHeader(bytes: Buffer, identity: string): Promise<AgeHeader> {
  const end = headerEnd(bytes);
  if (end === undefined || end + NONCE_BYTES > bytes.length) throw corrupt('it has no age header');
  const { Decrypter } = await import('age-encryption');
  const decrypter = new Decrypter();
  decrypter.addIdentity(identity);
  let fileKey: Uint8Array;
  try {
    fileKey = await decrypter.decryptHeader(bytes.subarray(0, end));
  } catch (reason) {
    throw corrupt('its header does not open with its key', reason);
  }
  const length = end + NONCE_BYTES;
  return { length, payloadKey: payloadKeyOf(fileKey, bytes.subarray(end, length)) };
}

/** The header ends with the line of its MAC: `--- `, 43 characters, a line feed. */
function headerEnd(bytes: Buffer): number | undefined {
  const macLine = bytes.indexOf('\n--- ', 0, 'latin1');
  const end = macLine < 0 ? -1 : bytes.indexOf(0x0a, macLine + 1);
  return end < 0 || end >= MAX_HEADER_BYTES ? undefined : end + 1;
}

function payloadKeyOf(fileKey: Uint8Array, nonce: Uint8Array): Buffer {
  return Buffer.from(hkdfSync('sha256', fileKey, nonce, 'payload', 32));
}
