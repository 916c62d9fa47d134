import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { link, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { BuilderdError, errnoOf, messageOf } from '../../core/errors.ts';
import { type MasterKeys, newMasterKeyText, parseMasterKeys } from './master-keys.ts';

/** Where the master key comes from: at most one of the first three; else a file in the data directory. */
export interface MasterKeySource {
  readonly file?: string;
  readonly value?: string;
  /** Absolute path of a program and its arguments, separated by blanks; run without a shell. */
  readonly command?: string;
  /** What the program gets to see of the environment. */
  readonly commandEnv?: Readonly<Record<string, string>>;
  readonly dataDirectory: string;
}

export interface LoadedMasterKeys {
  readonly keys: MasterKeys;
  /** The file that was made just now: whoever starts the service is told to keep a copy of it. */
  readonly madeFile?: string;
}

const OWN_FILE = 'master.key';
const MAX_FILE_BYTES = 16 * 1024;
const COMMAND_TIMEOUT_MS = 30_000;
const HEADER = `# Master key of builderd: seals credentials, webhook secrets and the keys of artifacts.
# Without it they are lost. Keep a copy apart from the copies of the database.
# To rotate, put a new key on a line above the others and restart.
`;

/** Throws `config.invalid`. `mayMake` says whether a missing key of our own is made. */
export async function loadMasterKeys(
  source: MasterKeySource,
  { mayMake, signal }: { readonly mayMake: boolean; readonly signal: AbortSignal },
): Promise<LoadedMasterKeys> {
  const { file, value, command } = source;
  if ([file, value, command].filter((given) => given !== undefined).length > 1) {
    throw unusable(
      'MASTER_KEY_FILE, MASTER_KEY and MASTER_KEY_COMMAND',
      'want one of them at most',
    );
  }
  if (value !== undefined) return { keys: parseMasterKeys(value, 'MASTER_KEY') };
  if (command !== undefined) return { keys: await fromCommand(command, source, signal) };
  if (file !== undefined) return { keys: parseMasterKeys(await readKeyFile(file), file) };
  return ownFile(path.join(source.dataDirectory, OWN_FILE), mayMake);
}

async function ownFile(file: string, mayMake: boolean): Promise<LoadedMasterKeys> {
  if (mayMake && (await makeKeyFile(file))) {
    return { keys: parseMasterKeys(await readKeyFile(file), file), madeFile: file };
  }
  return { keys: parseMasterKeys(await readKeyFile(file), file) };
}

/**
 * False when there is one already. The name appears with its content, so that neither a crash nor
 * another process that starts at the same time sees half a key.
 */
async function makeKeyFile(file: string): Promise<boolean> {
  const draft = `${file}.${randomUUID()}`;
  try {
    await using directory = await open(path.dirname(file), 'r');
    const { uid, gid } = await directory.stat();
    try {
      await using handle = await open(draft, 'wx', 0o600);
      // Made by root before it becomes the service user, who must be able to read it.
      if (process.getuid?.() === 0) await handle.chown(uid, gid);
      await handle.writeFile(`${HEADER}${newMasterKeyText()}\n`);
      await handle.sync();
      await link(draft, file);
    } finally {
      await rm(draft, { force: true });
    }
    // The name must survive a power cut as well: what is sealed next cannot be read without it.
    await directory.sync();
    return true;
  } catch (reason) {
    if (errnoOf(reason) === 'EEXIST') return false;
    throw unusable(file, messageOf(reason), reason);
  }
}

async function readKeyFile(file: string): Promise<string> {
  try {
    await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const facts = await handle.stat();
    if (!facts.isFile()) throw unusable(file, 'it is no regular file');
    if (facts.size > MAX_FILE_BYTES) throw unusable(file, `it is over ${MAX_FILE_BYTES} bytes`);
    if ((facts.mode & 0o007) !== 0) {
      throw unusable(file, `everybody may use it (mode ${(facts.mode & 0o777).toString(8)})`);
    }
    return await handle.readFile('utf8');
  } catch (reason) {
    if (reason instanceof BuilderdError) throw reason;
    throw unusable(file, messageOf(reason), reason);
  }
}

async function fromCommand(
  command: string,
  { commandEnv = {} }: MasterKeySource,
  signal: AbortSignal,
): Promise<MasterKeys> {
  const [program = '', ...args] = command.trim().split(/\s+/);
  if (!path.isAbsolute(program)) {
    throw unusable('MASTER_KEY_COMMAND', 'the program is not given by an absolute path');
  }
  let output: string;
  try {
    ({ stdout: output } = await promisify(execFile)(program, args, {
      env: { ...commandEnv },
      timeout: COMMAND_TIMEOUT_MS,
      killSignal: 'SIGKILL',
      maxBuffer: MAX_FILE_BYTES,
      signal,
    }));
  } catch (reason) {
    // The fault's own text may hold what the program printed.
    const code = reason instanceof Error && 'code' in reason ? String(reason.code) : 'no code';
    throw unusable('MASTER_KEY_COMMAND', `${program} failed (${code})`);
  }
  return parseMasterKeys(output, 'MASTER_KEY_COMMAND');
}

function unusable(where: string, fact: string, cause?: unknown): BuilderdError {
  return new BuilderdError('config.invalid', `Cannot use the master key from ${where}: ${fact}`, {
    ...(cause === undefined ? {} : { cause }),
  });
}
