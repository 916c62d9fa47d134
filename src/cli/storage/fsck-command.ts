import { BuilderdError } from '../../core/errors.ts';
import { formatBytes } from '../../core/units.ts';
import type { ArtifactStore } from '../../store/artifacts/artifact-store.ts';
import { checkStore } from '../../store/artifacts/check-store.ts';
import type { StoreFinding } from '../../store/artifacts/store-finding.ts';
import type { Database, Db } from '../../store/database.ts';
import type { Io } from '../io.ts';
import { oneLine } from '../print-fault.ts';
import { openStorage } from './open-storage.ts';

export interface FsckOptions {
  readonly config?: string;
  readonly repair?: true;
  readonly quick?: true;
  readonly adoptStore?: true;
  readonly json?: true;
}

/**
 * `builderd fsck`: holds every row against its bytes, and the disk against a probe. Gives the exit
 * code: 1 when something is damaged, or is wrong and was not repaired.
 */
export async function runFsck(options: FsckOptions, io: Io): Promise<number> {
  const isQuick = options.quick === true;
  await using storage = await openStorage(
    {
      file: options.config,
      readOnly: false,
      adopt: options.adoptStore === true,
      decrypts: async (database) => !isQuick && (await hasEncrypted(database)),
    },
    io,
  );
  const { database, store } = storage;
  const { signal } = io;
  await refuseEmpty(database, store, signal);
  const names = await tenantNames(database);
  const findings: StoreFinding[] = [];
  const repair = options.repair === true;
  const blobs = await checkStore(database, store, {
    depth: isQuick ? 'size' : 'content',
    repair,
    signal,
    onFinding: (finding) => {
      findings.push(finding);
      if (options.json !== true) io.stdout.write(`${oneLine(describe(finding, names))}\n`);
    },
  });
  const health = await store.check({ signal });
  if (options.json === true) {
    io.stdout.write(`${JSON.stringify({ blobs, repaired: repair, findings, health })}\n`);
  } else {
    io.stdout.write(`Checked ${blobs} blobs: ${summary(findings, repair)}\n`);
    if (health.kind === 'unhealthy') io.stdout.write(`${oneLine(health.reason)}\n`);
  }
  const isBad = findings.some((finding) => isLasting(finding, repair));
  return isBad || health.kind === 'unhealthy' ? 1 : 0;
}

/** Nothing at all where much should be is a disk that is not mounted, not a thousand damages. */
async function refuseEmpty(
  database: Database,
  store: ArtifactStore,
  signal: AbortSignal,
): Promise<void> {
  const row = await database.k
    .selectFrom('blobs')
    .select('digest')
    .where('state', '=', 'present')
    .limit(1)
    .executeTakeFirst();
  if (row === undefined) return;
  for await (const file of store.list({ signal })) {
    if (file.kind === 'blob') return;
  }
  throw new BuilderdError(
    'storage.failed',
    'Cannot check the artifact store: it holds none of the blobs that the database names; is it the right one, and mounted',
  );
}

async function hasEncrypted(db: Db): Promise<boolean> {
  const row = await db.k
    .selectFrom('blobs')
    .select('digest')
    .where('data_key_id', 'is not', null)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

async function tenantNames(db: Db): Promise<ReadonlyMap<string, string>> {
  const rows = await db.k.selectFrom('tenants').select(['id', 'name']).execute();
  return new Map(rows.map(({ id, name }) => [id, name]));
}

function describe(finding: StoreFinding, names: ReadonlyMap<string, string>): string {
  if (finding.kind === 'foreign') return `foreign       ${finding.name}`;
  if (finding.kind === 'unreadable') return `unreadable    ${finding.name}  ${finding.fact}`;
  const tenant = names.get(finding.tenantId) ?? finding.tenantId;
  const start = `${finding.kind.padEnd(12)}  ${tenant}`;
  if (finding.kind === 'miscounted') {
    const { countedBytes, storedBytes } = finding;
    return `${start}  ${formatBytes(countedBytes)} counted, ${formatBytes(storedBytes)} kept`;
  }
  const fact = finding.kind === 'corrupt' ? `  ${finding.fact}` : '';
  return `${start}  ${finding.digest}${fact}`;
}

function isDamage({ kind }: StoreFinding): boolean {
  return kind === 'missing' || kind === 'corrupt' || kind === 'unbacked';
}

/** What is still wrong after this run. Unnamed bytes may be those of a commit that is under way. */
function isLasting(finding: StoreFinding, repair: boolean): boolean {
  if (isDamage(finding) || finding.kind === 'unreadable') return true;
  return !repair && (finding.kind === 'miscounted' || finding.kind === 'unreferenced');
}

function summary(findings: readonly StoreFinding[], repair: boolean): string {
  const damaged = findings.filter(isDamage).length;
  const other = findings.length - damaged;
  if (findings.length === 0) return 'all sound';
  const advice = repair ? 'noted in the database' : 'nothing was changed; --repair notes it down';
  return `${damaged} damaged, ${other} other findings; ${advice}`;
}
