import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { BuilderdError } from '../../../core/errors.ts';
import { formatBytes } from '../../../core/units.ts';
import { type Artifact, artifactList } from '../client/answers.ts';
import { downloadArtifact } from '../client/download.ts';
import { streamArtifact } from '../client/stream-artifact.ts';
import { group, type Grammar, serverCommand, withServer } from '../command-kit.ts';
import type { Session } from '../session.ts';
import { createTransferView } from '../view/transfer-view.ts';
import { table } from '../view/table.ts';
import { shortTime } from '../view/times.ts';
import { buildPath } from './builds.ts';
import { told } from '../view/told.ts';

interface GetOptions {
  readonly output?: string;
  readonly quiet?: true;
}

export function artifactsGroup(grammar: Grammar): Command {
  return group('artifacts', 'list and fetch what a build left', [
    listCommand(grammar),
    getCommand(grammar),
  ]);
}

function listCommand(grammar: Grammar): Command {
  return serverCommand('list', 'list the artifacts of a build')
    .argument('<build>', 'its id')
    .action(
      withServer(grammar, async (session, _options, [id = '']) => {
        const artifacts = await listArtifacts(session, id);
        session.show({ artifacts }, () => {
          const rows = artifacts.map((each) => [
            each.name,
            each.format,
            formatBytes(each.sizeBytes),
            shortTime(each.createdAt),
            each.digest,
          ]);
          return table(['NAME', 'FORMAT', 'SIZE', 'CREATED', 'DIGEST'], rows);
        });
      }),
    );
}

function getCommand(grammar: Grammar): Command {
  return serverCommand('get', 'fetch an artifact, or all of them')
    .argument('<build>', 'id of the build')
    .argument('[name]', 'such as rootfs.ext4; without it all are fetched')
    .option('-o, --output <path>', 'the file; without a name a directory; - for standard output')
    .option('-q, --quiet', 'no progress')
    .addHelpText(
      'after',
      `
A cut transfer goes on where it was, also in a later run. A file appears under its name only when all
its bytes are there and are those of the digest.

Examples:
  builderctl artifacts get 0198c0de-… rootfs.ext4 -o debian.ext4
  builderctl artifacts get 0198c0de-… -o out/
  builderctl artifacts get 0198c0de-… metadata.json -o - | jq .
`,
    )
    .action(
      withServer<GetOptions>(grammar, async (session, options, [id = '', name]) => {
        const all = await listArtifacts(session, id);
        const wanted = name === undefined ? all : all.filter((each) => each.name === name);
        if (wanted.length === 0) {
          throw new BuilderdError(
            'api.not_found',
            `Cannot fetch ${name === undefined ? 'artifacts' : JSON.stringify(name.slice(0, 100))}: the build has none${all.length === 0 || name === undefined ? '' : ` of this name, but ${all.map((each) => each.name).join(', ')}`}`,
          );
        }
        const [first] = wanted;
        if (options.output === '-') {
          if (wanted.length > 1 || first === undefined) {
            throw new BuilderdError(
              'usage.invalid',
              'Cannot write several artifacts to standard output: name one',
            );
          }
          await streamArtifact(
            session.client,
            { id, artifact: first },
            {
              signal: session.signal,
              write: (bytes) => session.host.writeBytes(bytes),
            },
          );
          return;
        }
        if (name === undefined) await mkdir(options.output ?? '.', { recursive: true });
        const places = placesOf(wanted, name, options.output);
        const saved = await saveAll(session, id, places, { isSilent: options.quiet === true });
        session.show({ saved }, () => saved.map(({ path }) => told`${path}\n`).join(''));
      }),
    );
}

export async function listArtifacts(session: Session, id: string): Promise<readonly Artifact[]> {
  const { client, signal } = session;
  const ask = { doing: 'list the artifacts', signal };
  return (await client.ask(`${buildPath(id)}/artifacts`, artifactList, ask)).artifacts;
}

interface Place {
  readonly artifact: Artifact;
  readonly path: string;
}

function placesOf(
  artifacts: readonly Artifact[],
  name: string | undefined,
  output: string | undefined,
): readonly Place[] {
  return artifacts.map((artifact) => ({
    artifact,
    path:
      name !== undefined && output !== undefined
        ? output
        : join(output ?? '.', fileName(artifact.name)),
  }));
}

/** The server's name as a name of ours: one that could leave the directory is refused. */
export function fileName(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name) && basename(name) === name) return name;
  throw new BuilderdError(
    'server.invalid',
    'Cannot save the artifact: its name is no name of a file; use -o FILE',
  );
}

/** Fetches one after another: the connection is the bottleneck, and one progress line is readable. */
export async function saveAll(
  { client, host, signal, isJson }: Session,
  id: string,
  places: readonly Place[],
  { isSilent }: { readonly isSilent: boolean },
): Promise<readonly Saved[]> {
  const saved: Saved[] = [];
  for (const { artifact, path } of places) {
    const { name, digest, sizeBytes } = artifact;
    using view = createTransferView(host, { name, sizeBytes, isSilent: isSilent || isJson });
    await downloadArtifact(client, { id, artifact }, path, {
      signal,
      onProgress: view.onProgress,
      onCut: view.onCut,
    });
    saved.push({ name, path, digest, sizeBytes });
  }
  return saved;
}

interface Saved {
  readonly name: string;
  readonly path: string;
  readonly digest: string;
  readonly sizeBytes: number;
}
