import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../src/core/errors.ts';
import { runProgram } from './run-program.ts';

export interface AptSource {
  readonly uri: string;
  /** As in the sources file: bookworm, bookworm-updates, bookworm-security. */
  readonly release: string;
  readonly components: readonly string[];
  /** Keyring file that the source names; apt's default keyrings when absent. */
  readonly signedBy?: string;
}

export interface AptSetup {
  /** One-line-style sources of the suite, for mmdebstrap. */
  readonly lines: readonly string[];
  /** `Key "value"` settings that the mirror needs: proxies, validity of old snapshots. */
  readonly options: readonly string[];
  /** Seconds since 1970 of the newest release file of the suite; undefined if apt never saw it. */
  readonly releaseEpoch: number | undefined;
}

/**
 * How to reach Debian's `suite` from this machine: the mirrors, keyrings and settings that its
 * administrator configured for apt. A suite that is not configured is looked for at the mirror of
 * the one that is.
 */
export async function aptSetup(suite: string, signal: AbortSignal): Promise<AptSetup> {
  const all = await debianSources(signal);
  const own = all.filter((each) => suiteOf(each.release) === suite);
  const plain = all.find((each) => !/-(?:updates|security)$/.test(each.release));
  const chosen = own.length > 0 || plain === undefined ? own : [{ ...plain, release: suite }];
  if (chosen.length === 0) {
    throw new Error(
      `Cannot make a Debian ${suite} base: /etc/apt configures no Debian mirror (or run apt-get update)`,
    );
  }
  return {
    lines: chosen.map(formatLine),
    options: await mirrorOptions(signal),
    releaseEpoch: own.length > 0 ? await newestRelease(suite) : undefined,
  };
}

/** The codename of the machine's own Debian, as apt sees it. */
export async function hostSuite(signal: AbortSignal): Promise<string> {
  const [first] = await debianSources(signal);
  if (first === undefined) {
    throw new Error('Cannot tell the Debian suite: apt knows no package list; run apt-get update');
  }
  return suiteOf(first.release);
}

async function debianSources(signal: AbortSignal): Promise<AptSource[]> {
  // apt itself reads both file formats, options and includes; we only ask what came out.
  const format = '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SOURCESENTRY)';
  const text = await runProgram(
    'apt-get',
    ['indextargets', '--format', format, 'Created-By: Packages'],
    { signal },
  );
  const byPlace = new Map<string, AptSource>();
  for (const line of text.split('\n')) {
    const [origin, uri = '', release = '', component = '', entry = ''] = line.split('|');
    if (origin !== 'Debian') continue;
    const place = `${uri} ${release}`;
    const known = byPlace.get(place);
    const signedBy = known?.signedBy ?? (await signedByOf(entry));
    const components = [...new Set([...(known?.components ?? []), component])];
    byPlace.set(place, { uri, release, components, ...(signedBy ? { signedBy } : {}) });
  }
  return [...byPlace.values()];
}

/** `FILE:N` names the N-th stanza of a .sources file or the N-th line of a .list file. */
async function signedByOf(entry: string): Promise<string | undefined> {
  const match = /^(.*):(\d+)$/.exec(entry);
  if (match?.[1] === undefined) return undefined;
  const text = await readFile(match[1], 'utf8');
  const index = Number(match[2]) - 1;
  const part = match[1].endsWith('.sources')
    ? text
        .split(/\n\s*\n/)
        .filter((stanza) => /^\w/m.test(stanza))
        .at(index)
    : text.split('\n').at(index);
  return /signed-by\s*[=:]\s*(\/[^\s\],]+)/i.exec(part ?? '')?.[1];
}

function formatLine(source: AptSource): string {
  const options = source.signedBy === undefined ? '' : `[signed-by=${source.signedBy}] `;
  return `deb ${options}${source.uri} ${source.release} ${source.components.join(' ')}`;
}

async function mirrorOptions(signal: AbortSignal): Promise<string[]> {
  const dump = await runProgram('apt-config', ['dump', '--format', '%f "%v"%n'], { signal });
  return dump
    .split('\n')
    .filter((line) => /^Acquire::(?:(?:https?|ftp)::|Check-(?:Valid-Until|Date) )/.test(line))
    .filter((line) => !line.endsWith('""'));
}

async function newestRelease(suite: string): Promise<number | undefined> {
  const lists = '/var/lib/apt/lists';
  const names = await readdir(lists).catch((reason: unknown): string[] => {
    if (errnoOf(reason) === 'ENOENT') return [];
    throw reason;
  });
  const epochs: number[] = [];
  for (const name of names) {
    if (!name.includes(`_dists_${suite}`) || !/_(?:In)?Release$/.test(name)) continue;
    const date = /^Date: (.+)$/m.exec(await readFile(join(lists, name), 'utf8'))?.[1];
    const epoch = Date.parse(date ?? '') / 1000;
    if (Number.isFinite(epoch)) epochs.push(epoch);
  }
  return epochs.length > 0 ? Math.max(...epochs) : undefined;
}

function suiteOf(release: string): string {
  return release.replace(/-(?:updates|security)$/, '');
}
