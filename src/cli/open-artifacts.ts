import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { loadAddon } from '../../native/addon.ts';
import { BuilderdError, errnoOf, isBuilderdError, messageOf } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { ArtifactStore } from '../store/artifacts/artifact-store.ts';
import { blobIndex } from '../store/artifacts/blob-rows.ts';
import { openLocalStore } from '../store/artifacts/local-store.ts';
import { requireOwnStore } from '../store/artifacts/require-own-store.ts';
import type { S3Config } from '../store/artifacts/s3-client.ts';
import { openS3Store } from '../store/artifacts/s3-store.ts';
import { createTenantKeys } from '../store/artifacts/tenant-keys.ts';
import type { Database } from '../store/database.ts';
import type { SealedSecrets } from '../store/secrets/sealed-secrets.ts';
import type { Settings } from './config.ts';

export interface OpenArtifactsOptions {
  readonly settings: Settings;
  readonly database: Database;
  /** Absent when nothing encrypted is to be read or written. */
  readonly secrets?: SealedSecrets;
  readonly log: Log;
  /** Group that may read finished files; absent when we are not root. */
  readonly serviceGid?: number;
  /** The api only opens artifacts; the executor, whose files they are, stages and commits them. */
  readonly readOnly: boolean;
  /** Takes the store over from whatever database it was of. */
  readonly adopt?: boolean;
  readonly signal: AbortSignal;
}

/**
 * STORAGE_BACKEND: a directory of this host, or a bucket that several hosts share. Throws
 * `config.invalid` when it is the store of another database.
 */
export async function openArtifacts(options: OpenArtifactsOptions): Promise<ArtifactStore> {
  const { database, readOnly, adopt = false, log, signal } = options;
  const { S3_BUCKET, S3_PREFIX, ROOTFS_OUTPUT_DIR, STORAGE_BACKEND } = options.settings;
  const name = STORAGE_BACKEND === 's3' ? `${S3_BUCKET}/${S3_PREFIX}` : ROOTFS_OUTPUT_DIR;
  await using open = new AsyncDisposableStack();
  const store = open.use(await openStore(options));
  try {
    await requireOwnStore(database, store, { name, adopt, readOnly, signal });
  } catch (err) {
    // Who only reads may start before the bucket answers.
    if (!readOnly || !isBuilderdError(err, 'service.unavailable')) throw err;
    log.warn({ err }, 'Cannot tell yet whose artifact store it is');
  }
  open.move();
  return store;
}

async function openStore(options: OpenArtifactsOptions): Promise<ArtifactStore> {
  const { settings, database, secrets, log, serviceGid, readOnly } = options;
  const addon = loadAddon();
  const common = {
    index: blobIndex(database),
    ...(secrets === undefined ? {} : { keys: createTenantKeys(database, secrets) }),
    readOnly,
    ...(addon === undefined ? {} : { addon }),
  };
  if (settings.STORAGE_BACKEND === 's3') {
    return await openS3Store({
      ...common,
      s3: await s3Config(settings),
      prefix: settings.S3_PREFIX,
      stagingDirectory: path.join(settings.SCRATCH_DIR, 's3-staging'),
      onCleanupFault: (err) => log.warn({ err, step: 'upload' }, 'Cannot take an upload back'),
    });
  }
  const { ROOTFS_OUTPUT_DIR: directory } = settings;
  if (readOnly) await requireDirectory(directory);
  return await openLocalStore({
    ...common,
    directory,
    ...(serviceGid === undefined ? {} : { owner: { userId: 0, groupId: serviceGid } }),
  });
}

/** A command that only looks makes nothing: where the service never ran there is nothing to see. */
async function requireDirectory(directory: string): Promise<void> {
  try {
    await stat(directory);
  } catch (reason) {
    if (errnoOf(reason) !== 'ENOENT') return;
    throw new BuilderdError(
      'config.invalid',
      `Cannot open ${JSON.stringify(directory)}, UNKEY_BUILDERD_ROOTFS_OUTPUT_DIR: there is none yet; builderd serve makes it`,
      { cause: reason },
    );
  }
}

async function s3Config(settings: Settings): Promise<S3Config> {
  const endpoint = URL.parse(settings.S3_ENDPOINT);
  if (endpoint === null || !/^https?:$/.test(endpoint.protocol)) {
    throw new BuilderdError(
      'config.invalid',
      'Cannot use UNKEY_BUILDERD_S3_ENDPOINT: want an http or https URL',
    );
  }
  return {
    endpoint,
    bucket: settings.S3_BUCKET,
    region: settings.S3_REGION,
    accessKeyId: settings.S3_ACCESS_KEY_ID,
    secretAccessKey: await s3Secret(settings),
    pathStyle: settings.S3_PATH_STYLE,
  };
}

async function s3Secret(settings: Settings): Promise<string> {
  const { S3_SECRET_ACCESS_KEY: value, S3_SECRET_ACCESS_KEY_FILE: file } = settings;
  if (file === '') return value;
  const fault = (fact: string, cause?: unknown): BuilderdError =>
    new BuilderdError(
      'config.invalid',
      `Cannot use UNKEY_BUILDERD_S3_SECRET_ACCESS_KEY_FILE: ${fact}`,
      cause === undefined ? {} : { cause },
    );
  if (value !== '') throw fault('S3_SECRET_ACCESS_KEY is given as well');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (reason) {
    throw fault(messageOf(reason), reason);
  }
  const key = text.trim();
  if (key === '' || /\s/.test(key)) throw fault('want one line with the key');
  return key;
}
