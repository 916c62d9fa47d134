// Plain JavaScript: it is what lets Node load TypeScript without stripping it again.
import { hash } from 'node:crypto';
import { lstatSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { registerHooks, stripTypeScriptTypes } from 'node:module';
import { userInfo } from 'node:os';
import { fileURLToPath } from 'node:url';

const SUM_LENGTH = 64;

/**
 * Stripping types costs more than half of the start-up, and the stripper's 15 MB stay in memory: its
 * work is kept, under the digest of the source. (Node's compile cache does so, too, but holds all
 * that it ever read in memory, 5 MB in each process.) A shared place such as /tmp would let anyone
 * plant code for root: only a directory that nobody else can change or replace, in the home that the
 * account database names, is used. Without one, Node strips at each start.
 */
export function keepStrippedCode() {
  const directory = ownDirectory();
  if (directory === undefined) return;
  registerHooks({
    load(url, context, next) {
      if (!url.startsWith('file:') || !url.endsWith('.ts')) return next(url, context);
      const text = readFileSync(fileURLToPath(url), 'utf8');
      const file = `${directory}/${hash('sha256', text)}.js`;
      const source = readKept(file) ?? stripAndKeep(text, file);
      return { format: 'module', source, shortCircuit: true };
    },
  });
}

function ownDirectory() {
  try {
    return privateDirectory(userInfo());
  } catch {
    // A read-only home, or an account without one: slower by some 100 ms and otherwise the same.
    return undefined;
  }
}

/**
 * Below the home, made when it is missing. Undefined when somebody else may change the way to it: what
 * is ours could be taken away, and other code put in its stead. Throws where it cannot be made.
 */
export function privateDirectory({ homedir, uid }) {
  const isOurs = (place) => {
    const stat = lstatSync(place);
    return stat.isDirectory() && [uid, 0].includes(stat.uid) && (stat.mode & 0o022) === 0;
  };
  if (!isOurs(homedir)) return undefined;
  const directory = `${homedir}/.cache/builderd/stripped`;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const way = [`${homedir}/.cache`, `${homedir}/.cache/builderd`, directory];
  return way.every(isOurs) ? directory : undefined;
}

/** The last characters are the digest of the rest: a crash of the host may leave half a file. */
function readKept(file) {
  try {
    const kept = readFileSync(file, 'utf8');
    const source = kept.slice(0, -SUM_LENGTH);
    return hash('sha256', source) === kept.slice(-SUM_LENGTH) ? source : undefined;
  } catch {
    // Not there yet; or we have become the service user, who may not read it.
    return undefined;
  }
}

function stripAndKeep(text, file) {
  const source = `${strip(text)}\n//`;
  const draft = `${file}.${process.pid}`;
  try {
    writeFileSync(draft, source + hash('sha256', source), { mode: 0o600 });
    renameSync(draft, file);
  } catch {
    // A full disk, or the service user: it will be stripped again.
    return source;
  }
  return source;
}

/** Throws what Node would throw. It warns that this function may change; the Node we run on is fixed. */
function strip(text) {
  const emitWarning = process.emitWarning.bind(process);
  process.emitWarning = () => undefined;
  try {
    return stripTypeScriptTypes(text);
  } finally {
    process.emitWarning = emitWarning;
  }
}
