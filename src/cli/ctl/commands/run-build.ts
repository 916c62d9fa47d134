import { dirname, join } from 'node:path';
import { asBuilderdError, BuilderdError } from '../../../core/errors.ts';
import { newId } from '../../../core/ids.ts';
import { type Artifact, type Build, build } from '../client/answers.ts';
import { oneLine } from '../../print-fault.ts';
import { HintedFault } from '../hinted-fault.ts';
import { checkOutput, makeDirectory } from '../output-path.ts';
import type { Session } from '../session.ts';
import { builtText } from '../view/build-text.ts';
import { chooseBuildView } from '../view/build-view.ts';
import type { BuildOptions } from './build-options.ts';
import { toBuildSpec } from './build-spec-options.ts';
import { cancelBuild } from './builds.ts';
import { followBuild } from './follow-build.ts';
import { followHint } from './follow-hint.ts';
import { fileName, type Place, saveAll } from './save-artifacts.ts';
import { readLogin } from './source-login.ts';
import { told } from '../view/told.ts';

const CANCEL_MS = 10_000;

/** `builderctl build`: asks, follows, fetches. Gives the exit code of the build. */
export async function runCtlBuild(
  session: Session,
  source: string,
  options: BuildOptions,
): Promise<number> {
  const { host } = session;
  const spec = toBuildSpec(source, options, await readLogin(session, options));
  if (options.output !== undefined) {
    await checkOutput(options.output, spec.target?.formats?.length ?? 1);
  }
  const made = await create(session, spec, options.idempotencyKey ?? newId());
  const follow =
    options.detach !== true &&
    (options.follow === true || options.output !== undefined || host.stderr.isTTY === true);
  if (!follow) {
    session.show(made, () => told`${made.id}\n`);
    return 0;
  }
  const ended = await followOrLeave(session, made, options);
  if (ended.state !== 'completed') return reportFailure(session, ended);
  const places = options.output === undefined ? [] : placesOf(ended.artifacts, options.output);
  for (const directory of new Set(places.map(({ path }) => dirname(path)))) {
    await makeDirectory(directory);
  }
  const saved = await saveAll(session, ended.id, places, { isSilent: options.quiet === true });
  session.show({ ...ended, saved }, () =>
    builtText(
      ended,
      saved.map(({ path }) => path),
    ),
  );
  return 0;
}

/** The key makes a repeat harmless: a lost answer is asked for again, by us or by the user. */
async function create({ client, signal }: Session, spec: object, key: string): Promise<Build> {
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new BuilderdError(
      'usage.invalid',
      'Cannot use --idempotency-key: want 1 to 255 visible ASCII characters',
    );
  }
  try {
    return await client.ask('/v1/builds', build, {
      method: 'POST',
      doing: 'create the build',
      headers: { 'idempotency-key': key },
      body: spec,
      repeatable: true,
      signal,
    });
  } catch (reason) {
    if (!signal.aborted) throw reason;
    throw new HintedFault(
      'build.cancelled',
      'Cannot tell whether the build was created: it was interrupted before the answer',
      {
        hint: `Run the same command with \`--idempotency-key ${key}\`: it gives that build, if there is one.`,
      },
    );
  }
}

/** Ctrl-C ends the following, not the build, unless the user said otherwise before. */
async function followOrLeave(session: Session, made: Build, options: BuildOptions): Promise<Build> {
  const { host } = session;
  const view = chooseBuildView({ progress: options.progress, quiet: options.quiet === true }, host);
  try {
    return await followBuild(session, made, view);
  } catch (reason) {
    view.stop();
    const details = { buildId: made.id };
    if (!host.signal.aborted) {
      const fault = asBuilderdError(reason, 'follow the build');
      const message = `${fault.message}; build ${made.id} goes on without us`;
      throw new HintedFault(fault.code, message, { hint: followHint(made.id), details });
    }
    if (options.cancelOnInterrupt !== true) {
      const message = `Cannot follow build ${made.id} any longer: it was interrupted here and goes on there`;
      throw new HintedFault('build.cancelled', message, { hint: followHint(made.id), details });
    }
    // The user's signal is used up; this is the last thing that we do.
    await cancelBuild(session.client, made.id, { signal: AbortSignal.timeout(CANCEL_MS) });
    throw new HintedFault(
      'build.cancelled',
      `Cannot finish build ${made.id}: it was interrupted, and is being cancelled`,
      { hint: `Look at it with \`builderctl builds get ${made.id}\`.`, details },
    );
  } finally {
    view.stop();
  }
}

function reportFailure(session: Session, ended: Build): number {
  const { host, isJson } = session;
  if (isJson) {
    session.show(ended, () => '');
    return 1;
  }
  const { error, id, state } = ended;
  const message = error?.message ?? `Cannot finish build ${id}: it is ${state}`;
  const about = error === undefined ? '' : ` (${error.code}, fault: ${error.fault})`;
  const hint = error?.hint ?? `Read its log with \`builderctl logs ${id}\`.`;
  host.stderr.write(`builderctl: ${oneLine(`${message}${about}`)}\nnext: ${oneLine(hint)}\n`);
  return 1;
}

/** One disk gets the name that was asked for, its papers stand beside it; several share a directory. */
function placesOf(artifacts: readonly Artifact[], output: string): readonly Place[] {
  const disks = artifacts.filter(({ name }) => name.startsWith('rootfs.'));
  const papers = artifacts.filter(
    ({ name }) => name === 'metadata.json' || name === 'fidelity.json',
  );
  const [disk] = disks;
  if (disk === undefined) {
    throw new BuilderdError(
      'artifact.missing',
      'Cannot fetch the result: the build left no root file system',
    );
  }
  if (disks.length === 1) {
    return [
      { artifact: disk, path: output },
      ...papers.map((artifact) => ({ artifact, path: `${output}.${fileName(artifact.name)}` })),
    ];
  }
  return [...disks, ...papers].map((artifact) => ({
    artifact,
    path: join(output, fileName(artifact.name)),
  }));
}
