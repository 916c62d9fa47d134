import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { BuilderdError } from '../../core/errors.ts';
import type { MasterKey, MasterKeys } from './master-keys.ts';

/** The row that a sealed value belongs to; opened for any other row it is a forgery. */
export interface SecretPlace {
  readonly table: 'credentials' | 'webhooks' | 'build_secrets' | 'data_keys' | 'meta';
  /** Empty for `meta`. */
  readonly tenantId: string;
  /** The row's key: `id`, or `build_id` of build_secrets. */
  readonly rowId: string;
}

/** Seals small secrets for columns named `sealed`. */
export interface SealedSecrets {
  /** Name of the key that seals now. */
  readonly keyId: string;
  seal(place: SecretPlace, plain: Uint8Array | string): Uint8Array;
  /** Throws `config.invalid` when its key is not loaded, `internal` when it was changed or moved. */
  open(place: SecretPlace, sealed: Uint8Array): Buffer;
  /** Whether an older key sealed it. */
  isOutdated(sealed: Uint8Array): boolean;
  /** 32 bytes for another purpose, the same in every process that has the key. */
  deriveKey(purpose: string): Buffer;
}

// version 1 | key id 8 | nonce 12 | ciphertext | tag 16
const VERSION = 1;
const ID_END = 9;
const NONCE_END = 21;
const TAG_BYTES = 16;
const MAX_PLAIN_BYTES = 256 * 1024;

/** AES-256-GCM under the master key; version, key id and place are authenticated with the value. */
export function createSealedSecrets(keys: MasterKeys): SealedSecrets {
  const byId = new Map([keys.current, ...keys.previous].map((key) => [key.id, key]));
  return {
    keyId: keys.current.id,
    seal: (place, plain) => seal(keys.current, place, plain),
    open(place, sealed) {
      const key = byId.get(keyIdOf(sealed));
      if (key === undefined) {
        throw new BuilderdError(
          'config.invalid',
          `Cannot open a sealed value of ${place.table}: master key ${keyIdOf(sealed)} is not loaded`,
        );
      }
      return open(key, place, sealed);
    },
    isOutdated: (sealed) => keyIdOf(sealed) !== keys.current.id,
    deriveKey: (purpose) =>
      Buffer.from(hkdfSync('sha256', keys.current.key, '', `builderd derived key\0${purpose}`, 32)),
  };
}

function seal({ id, key }: MasterKey, place: SecretPlace, plain: Uint8Array | string): Uint8Array {
  const bytes = typeof plain === 'string' ? Buffer.from(plain, 'utf8') : plain;
  if (bytes.length > MAX_PLAIN_BYTES) {
    throw new BuilderdError(
      'api.too_large',
      `Cannot seal a secret of ${bytes.length} bytes: the limit is ${MAX_PLAIN_BYTES}`,
    );
  }
  const header = Buffer.concat([Buffer.from([VERSION]), Buffer.from(id, 'hex'), randomBytes(12)]);
  const cipher = createCipheriv('aes-256-gcm', key, header.subarray(ID_END));
  cipher.setAAD(boundData(header, place));
  return Buffer.concat([header, cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
}

function open({ key }: MasterKey, place: SecretPlace, sealed: Uint8Array): Buffer {
  const header = sealed.subarray(0, NONCE_END);
  const tagStart = sealed.length - TAG_BYTES;
  const nonce = header.subarray(ID_END);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(boundData(header, place));
  decipher.setAuthTag(sealed.subarray(tagStart));
  try {
    return Buffer.concat([decipher.update(sealed.subarray(NONCE_END, tagStart)), decipher.final()]);
  } catch (reason) {
    throw new BuilderdError(
      'internal',
      `Cannot open a sealed value of ${place.table}: it was changed or belongs to another row`,
      { cause: reason },
    );
  }
}

function keyIdOf(sealed: Uint8Array): string {
  if (sealed.length < NONCE_END + TAG_BYTES || sealed[0] !== VERSION) {
    throw new BuilderdError('internal', 'Cannot open a sealed value: it has an unknown form');
  }
  return Buffer.from(sealed.subarray(1, ID_END)).toString('hex');
}

/** Lengths go before the parts, so that no two places read the same. */
function boundData(header: Uint8Array, { table, tenantId, rowId }: SecretPlace): Buffer {
  const parts = [table, tenantId, rowId].flatMap((part) => {
    const bytes = Buffer.from(part, 'utf8');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return [length, bytes];
  });
  return Buffer.concat([header.subarray(0, ID_END), ...parts]);
}
