import { createHash, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { BuilderdError } from '../../core/errors.ts';

const KEY_BYTES = 32;
const MAX_KEYS = 16;
const KEY_TEXT = /^(?:[0-9a-fA-F]{64}|[A-Za-z0-9+/_-]{43}=?)$/;

export interface MasterKey {
  /** First 8 bytes of a hash of the key, in hex: names it and tells nothing about it. */
  readonly id: string;
  readonly key: KeyObject;
}

/** The first seals; the others only open what was sealed before a rotation. */
export interface MasterKeys {
  readonly current: MasterKey;
  readonly previous: readonly MasterKey[];
}

/**
 * Parses keys of 32 bytes, one a line (or between commas) in hex or base64, newest first; `#`
 * starts a comment. Throws `config.invalid` and never shows what it read.
 */
export function parseMasterKeys(text: string, where: string): MasterKeys {
  const words = text
    .split('\n')
    .flatMap((line) => line.replace(/#.*$/, '').split(','))
    .map((word) => word.trim())
    .filter((word) => word !== '');
  const bad = words.findIndex((word) => !KEY_TEXT.test(word));
  if (bad !== -1) throw unusable(where, `key ${bad + 1} is not 32 bytes in hex or base64`);
  if (words.length > MAX_KEYS) throw unusable(where, `it holds more than ${MAX_KEYS} keys`);
  const [current, ...previous] = words.map((word) =>
    masterKey(Buffer.from(word, word.length === 2 * KEY_BYTES ? 'hex' : 'base64')),
  );
  if (current === undefined) throw unusable(where, 'it holds no key');
  return { current, previous };
}

/** A fresh key in the form that `parseMasterKeys` reads. */
export function newMasterKeyText(): string {
  return randomBytes(KEY_BYTES).toString('base64');
}

function masterKey(bytes: Buffer): MasterKey {
  const id = createHash('sha256').update('builderd master key id\0').update(bytes).digest('hex');
  return { id: id.slice(0, 16), key: createSecretKey(bytes) };
}

function unusable(where: string, fact: string): BuilderdError {
  return new BuilderdError('config.invalid', `Cannot use the master key from ${where}: ${fact}`);
}
