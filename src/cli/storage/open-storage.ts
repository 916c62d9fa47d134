import type { Log } from '../../core/log.ts';
import type { ArtifactStore } from '../../store/artifacts/artifact-store.ts';
import type { Database } from '../../store/database.ts';
import { openDatabase } from '../../store/open-database.ts';
import { loadMasterKeys } from '../../store/secrets/load-master-keys.ts';
import { createSealedSecrets, type SealedSecrets } from '../../store/secrets/sealed-secrets.ts';
import { masterKeySource } from '../compose-service.ts';
import { type Config, loadConfig } from '../config.ts';
import { databaseConfig } from '../database-config.ts';
import type { Io } from '../io.ts';
import { openArtifacts } from '../open-artifacts.ts';
import { oneLine } from '../print-fault.ts';

export interface Storage extends AsyncDisposable {
  readonly config: Config;
  readonly database: Database;
  readonly store: ArtifactStore;
  readonly log: Log;
  /** When the master key was asked for. */
  readonly secrets: SealedSecrets | undefined;
}

export interface StorageOptions {
  /** Environment file. */
  readonly file: string | undefined;
  readonly readOnly: boolean;
  /** Takes the store over from whatever database it was of. */
  readonly adopt?: boolean;
  /** Whether encrypted artifacts are to be read: only that takes the master key. */
  readonly decrypts: (database: Database) => Promise<boolean>;
}

/** The database and the artifacts that the settings name. The database is not migrated. */
export async function openStorage(options: StorageOptions, io: Io): Promise<Storage> {
  const { signal } = io;
  const config = loadConfig(options.file);
  const { settings } = config;
  const log = stderrLog(io);
  await using open = new AsyncDisposableStack();
  const database = open.use(
    await openDatabase(databaseConfig(config), { signal, log, migrate: false }),
  );
  const isSealed = await options.decrypts(database);
  const keys = isSealed
    ? await loadMasterKeys(masterKeySource(config), { mayMake: false, signal })
    : undefined;
  const secrets = keys === undefined ? undefined : createSealedSecrets(keys.keys);
  const store = open.use(
    await openArtifacts({
      settings,
      database,
      log,
      readOnly: options.readOnly,
      adopt: options.adopt === true,
      signal,
      ...(secrets === undefined ? {} : { secrets }),
    }),
  );
  const owned = open.move();
  return {
    config,
    database,
    store,
    log,
    secrets,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Warnings go to the person who typed the command; what went well is in the command's own words. */
function stderrLog(io: Io): Log {
  const say: Log['warn'] = ({ code }, message) => {
    io.stderr.write(
      `builderd: ${oneLine(code === undefined ? message : `${message} (${code})`)}\n`,
    );
  };
  const log: Log = {
    debug: () => undefined,
    info: () => undefined,
    warn: say,
    error: say,
    child: () => log,
  };
  return log;
}
