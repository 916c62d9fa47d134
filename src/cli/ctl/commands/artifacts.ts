import { join } from 'node:path';
import type { Command } from 'commander';
import { BuilderdError } from '../../../core/errors.ts';
import { formatBytes } from '../../../core/units.ts';
import { type Artifact, artifactList } from '../client/answers.ts';
import { streamArtifact } from '../client/stream-artifact.ts';
import { group, type Grammar, serverCommand, withServer } from '../command-kit.ts';
import { isDirectory, makeDirectory } from '../output-path.ts';
import type { Session } from '../session.ts';
import { table } from '../view/table.ts';
import { shortTime } from '../view/times.ts';
import { buildPath } from './builds.ts';
import { fileName, type Place, saveAll } from './save-artifacts.ts';
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
        if (name === undefined) await makeDirectory(options.output ?? '.');
        const places = await placesOf(wanted, name, options.output);
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

/** A name and a file give that file; all else stands in a directory under its own name. */
async function placesOf(
  artifacts: readonly Artifact[],
  name: string | undefined,
  output = '.',
): Promise<readonly Place[]> {
  const isFile = name !== undefined && !(await isDirectory(output));
  return artifacts.map((artifact) => ({
    artifact,
    path: isFile ? output : join(output, fileName(artifact.name)),
  }));
}
