import { bytesFrom, escapeBytes, type ByteString } from '../../core/bytes.ts';
import { BuilderdError } from '../../core/errors.ts';
import { lookup } from '../tree-lookup.ts';
import type { Inode, MergedTree, TreeNode } from '../tree.ts';

/** security.md section 4: more than this is an attack on whoever reads it (CVE-2026-47262). */
const MAX_ACCOUNT_FILE_BYTES = 10 * 1024 * 1024;

export interface PasswdEntry {
  readonly name: ByteString;
  readonly uid: number;
  readonly gid: number;
  readonly home: ByteString;
}

export interface GroupEntry {
  readonly name: ByteString;
  readonly gid: number;
  readonly members: readonly ByteString[];
}

export interface Accounts {
  readonly users: readonly PasswdEntry[];
  readonly groups: readonly GroupEntry[];
}

/** Content of a file of the merged tree; the caller knows where its blocks are. */
export type ReadTreeFile = (
  inode: Inode,
  options: { readonly signal: AbortSignal },
) => Promise<Buffer>;

/**
 * Reads /etc/passwd and /etc/group of the image itself. A missing file is an empty one. Symlinks
 * stay inside the tree; anything but a regular file of at most 10 MiB is refused with
 * `image.bad_config` (security.md A26, A27).
 */
export async function readAccounts(
  tree: MergedTree,
  readFile: ReadTreeFile,
  options: { readonly signal: AbortSignal },
): Promise<Accounts> {
  const passwd = await readAccountFile(tree, '/etc/passwd', readFile, options);
  const group = await readAccountFile(tree, '/etc/group', readFile, options);
  return { users: parsePasswd(passwd), groups: parseGroup(group) };
}

async function readAccountFile(
  tree: MergedTree,
  path: string,
  readFile: ReadTreeFile,
  options: { readonly signal: AbortSignal },
): Promise<Buffer> {
  const found = lookup(tree, path as ByteString);
  switch (found.kind) {
    case 'missing':
      return Buffer.alloc(0);
    case 'loop':
      throw refused(path, 'it is a loop of symlinks');
    case 'not_a_directory':
      throw refused(path, `${escapeBytes(found.path)} is not a directory`);
    case 'found':
      return await readFile(checkFile(found.node, path), options);
  }
}

function checkFile({ inode }: TreeNode, path: string): Inode {
  if (inode.kind !== 'file') throw refused(path, `it is not a regular file but a ${inode.kind}`);
  if (inode.size > MAX_ACCOUNT_FILE_BYTES) {
    throw refused(path, `its ${inode.size} bytes are more than ${MAX_ACCOUNT_FILE_BYTES}`);
  }
  return inode;
}

function refused(path: string, fact: string): BuilderdError {
  return new BuilderdError('image.bad_config', `Cannot read ${path} of the image: ${fact}`);
}

/** Lines that are no entry are skipped, as every C library does. */
export function parsePasswd(content: Buffer): PasswdEntry[] {
  const entries: PasswdEntry[] = [];
  for (const [name, , uidText, gidText, , home] of rows(content)) {
    const uid = parseId(uidText);
    const gid = parseId(gidText);
    if (name === undefined || uid === undefined || gid === undefined) continue;
    entries.push({ name, uid, gid, home: home === undefined || home === '' ? ROOT : home });
  }
  return entries;
}

export function parseGroup(content: Buffer): GroupEntry[] {
  const entries: GroupEntry[] = [];
  for (const [name, , gidText, members] of rows(content)) {
    const gid = parseId(gidText);
    if (name === undefined || gid === undefined) continue;
    const list = (members ?? '').split(',').filter((member) => member !== '');
    entries.push({ name, gid, members: list as ByteString[] });
  }
  return entries;
}

const ROOT = '/' as ByteString;

function* rows(content: Buffer): Generator<ByteString[]> {
  for (const line of bytesFrom(content).split('\n')) {
    const text = line.trim();
    if (text === '' || text.startsWith('#')) continue;
    yield text.split(':') as ByteString[];
  }
}

function parseId(text: ByteString | undefined): number | undefined {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= 2 ** 31 - 1 ? id : undefined;
}
