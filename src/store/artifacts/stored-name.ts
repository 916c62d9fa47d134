import { type Digest, digestHex, isDigest } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import { newId, parseTenantId, type TenantId } from '../../core/ids.ts';
import type { Generation, StagedAttempt, StageRequest } from './artifact-store.ts';

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}';
/** `<build>.<attempt>` for what a build commits, a fresh UUID for what is stored again. */
const GENERATION = new RegExp(`^${UUID}(?:\\.[1-9]\\d{0,8})?$`);
const FILE = new RegExp(`^([0-9a-f]{64})\\.(${UUID}(?:\\.[1-9]\\d{0,8})?)$`);
const STAGED = /^[a-z0-9][a-z0-9.-]{0,63}$/;

export function parseGeneration(raw: string): Generation {
  if (isGeneration(raw)) return raw;
  throw new BuilderdError('internal', 'Cannot read a generation of a blob: it is not one of ours');
}

/** An attempt's number is given once only: what it commits is never mistaken for another's. */
export function attemptGeneration({ buildId, attempt }: StagedAttempt): Generation {
  return parseGeneration(`${buildId}.${attempt}`);
}

export function freshGeneration(): Generation {
  return parseGeneration(newId());
}

/** Where a copy lies below the store's root: directories, then the file. */
export interface StoredPath {
  readonly directories: readonly [tenant: string, algorithm: string, prefix: string];
  readonly file: string;
}

/** Every part is checked again here: what comes from a row is only as good as the row. */
export function storedPath(
  tenantId: TenantId,
  { digest, generation }: { readonly digest: Digest; readonly generation: Generation },
): StoredPath {
  const hex = digestHex(digest);
  if (!isDigest(digest) || !digest.startsWith('sha256:')) {
    throw new BuilderdError('internal', 'Cannot name a blob: its digest is no SHA-256');
  }
  return {
    directories: [parseTenantId(tenantId), 'sha256', hex.slice(0, 2)],
    file: `${hex}.${parseGeneration(generation)}`,
  };
}

/** The reverse, for one file in `prefix`. Undefined for names that are not ours. */
export function parseStoredFile(
  prefix: string,
  file: string,
): { readonly digest: Digest; readonly generation: Generation } | undefined {
  const [, hex = '', raw = ''] = FILE.exec(file) ?? [];
  const digest = `sha256:${hex}`;
  if (!isDigest(digest) || !hex.startsWith(prefix) || !isGeneration(raw)) return undefined;
  return { digest, generation: raw };
}

export function checkStageRequest({ attempt, name }: StageRequest): void {
  if (STAGED.test(name) && Number.isSafeInteger(attempt) && attempt >= 1 && attempt < 1e9) return;
  throw new BuilderdError('internal', 'Cannot stage an artifact: its name or attempt is not ours');
}

const isGeneration = (raw: string): raw is Generation => GENERATION.test(raw);
