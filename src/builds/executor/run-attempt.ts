import path from 'node:path';
import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { detachedSignal, Scope } from '../../core/scope.ts';
import { formatDuration } from '../../core/units.ts';
import type { NewArtifact } from '../../store/artifacts/artifact-rows.ts';
import { discardCopies } from '../../store/artifacts/noted-copies.ts';
import { attemptGeneration } from '../../store/artifacts/stored-name.ts';
import { openScratch } from '../../store/staged-file.ts';
import type { AcquiredImage } from '../ports.ts';
import type { ConvertedBuild } from '../worker/converter.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptDeps } from './attempt-deps.ts';
import { pulledText } from './attempt-journal.ts';
import { completeAttempt } from './complete-attempt.ts';
import { isFull } from './host-room.ts';
import type { PreparedAttempt } from './prepare-attempt.ts';
import { type StagedOutput, stageOutputs, storeDocument, storeOutput } from './store-artifacts.ts';

/** A lease outlives the work that it holds blobs for, and not by much: it cannot be prolonged. */
const LEASE_SLACK_MS = 10 * 60_000;
const UNDO_LIMIT_MS = 10_000;

/**
 * One build, once: pull, convert, store, complete. When this returns, the build is completed; when
 * it throws, all that it held is given back, and the row still says that we hold the build.
 */
export async function runAttempt(prepared: PreparedAttempt, deps: AttemptDeps): Promise<void> {
  const { attempt, plan, journal } = prepared;
  const { failpoints } = deps;
  let isConverting = false;
  await using scope = new Scope((step, reason) => journal.undoFailed(step, reason));
  try {
    await failpoints.hit('attempt.claimed');
    const image = await pull(prepared, deps);
    scope.defer('release the image', async () => image[Symbol.asyncDispose]());
    await failpoints.hit('attempt.pulled');

    await journal.enter('extracting');
    scope.defer('discard what was committed', () => discardUnnamed(attempt, deps));
    scope.defer('discard what was staged', () => discardStaged(attempt, deps));
    const outputs = await stageOutputs(attempt, plan.formats, deps.artifacts, scope);
    await failpoints.hit('attempt.staged');
    isConverting = true;
    const converted = await convert(prepared, image, outputs, deps);
    isConverting = false;
    await failpoints.hit('attempt.converted');

    await journal.enter('optimizing');
    const artifacts = await store(attempt, outputs, converted, deps);
    await failpoints.hit('attempt.stored');

    await completeAttempt(prepared, { image, converted, artifacts }, deps);
  } catch (reason) {
    // What it wrote is still there: afterwards the disk may look as if it never was full.
    if (await metFullDisk(reason, deps, { isOfWorker: isConverting })) attempt.noteFullDisk();
    // Before anything is undone; whoever looks sees why it takes a moment.
    if (attempt.holds) await journal.clean();
    throw reason;
  }
}

/** A worker may say anything: what it says of the disk is looked at. */
async function metFullDisk(
  reason: unknown,
  { artifacts }: AttemptDeps,
  { isOfWorker }: { readonly isOfWorker: boolean },
): Promise<boolean> {
  if (!isBuilderdError(reason, 'storage.full')) return false;
  if (!isOfWorker) return true;
  try {
    return isFull(await artifacts.space({ signal: detachedSignal(UNDO_LIMIT_MS) }));
  } catch {
    // A disk that cannot be asked takes no builds either.
    return true;
  }
}

async function pull(
  { attempt, plan, logins, journal }: PreparedAttempt,
  deps: AttemptDeps,
): Promise<AcquiredImage> {
  const { claim } = attempt;
  journal.note('info', 'puller', `Pulling ${plan.reference}`);
  const images = deps.images.forAttempt({
    tenantId: claim.tenantId,
    buildId: claim.buildId,
    attempt: claim.attempt,
    credentials: logins,
    leaseTtlMs: claim.timeoutMs + LEASE_SLACK_MS,
    onCleanupFault: (step, reason) => journal.undoFailed(step, reason),
  });
  using limit = pullLimit(deps.pullTimeoutMs);
  const image = await images.acquire(
    { kind: 'registry', reference: plan.reference },
    {
      platform: plan.platform,
      pullPolicy: plan.pullPolicy,
      signal: AbortSignal.any([attempt.signal, limit.signal]),
      onProgress: journal.onProgress,
    },
  );
  const { progress } = journal;
  const durationMs = progress.durationMs('pulling');
  deps.metrics.pullFinished({ registry: plan.registry, durationMs, bytes: progress.pulledBytes });
  journal.note(
    'info',
    'puller',
    `${pulledText(progress.pulledBytes, durationMs)}: ${image.reference} is ${image.target.digest}`,
  );
  return image;
}

/** UNKEY_BUILDERD_DOCKER_PULL_TIMEOUT bounds everything up to the last blob. */
function pullLimit(limitMs: number | undefined): Disposable & { readonly signal: AbortSignal } {
  const control = new AbortController();
  const timer =
    limitMs === undefined
      ? undefined
      : setTimeout(() => {
          const fact = `it took longer than ${formatDuration(limitMs)}`;
          control.abort(new BuilderdError('build.timeout', `Cannot pull the image: ${fact}`));
        }, limitMs);
  return { signal: control.signal, [Symbol.dispose]: () => clearTimeout(timer) };
}

/** Files go with what staged them; this is for their directory, and for a file whose handle is gone. */
function discardStaged({ claim }: Attempt, { artifacts }: AttemptDeps): Promise<void> {
  const { buildId, attempt } = claim;
  return artifacts.discardAttempt({ buildId, attempt }, { signal: detachedSignal(UNDO_LIMIT_MS) });
}

/** What was committed and got no name; after a completed build there is none. */
async function discardUnnamed(
  { claim }: Attempt,
  { database, artifacts }: AttemptDeps,
): Promise<void> {
  const copies = { tenantId: claim.tenantId, generation: attemptGeneration(claim) };
  await discardCopies(database, artifacts, copies, { signal: detachedSignal(UNDO_LIMIT_MS) });
}

async function convert(
  { attempt, plan, journal }: PreparedAttempt,
  image: AcquiredImage,
  outputs: readonly StagedOutput[],
  deps: AttemptDeps,
): Promise<ConvertedBuild> {
  const { claim, signal } = attempt;
  const { guestInit } = deps;
  return deps.converter.convert(
    {
      ...plan,
      image,
      outputs: outputs.map(({ format, staged }) => ({ format, handle: staged.handle })),
      openScratch: () => openScratch(path.join(deps.scratchDir, claim.buildId)),
      startedAt: deps.clock.now(),
      ...(guestInit === undefined ? {} : { guestInit }),
    },
    {
      signal,
      onProgress: journal.onProgress,
      maxArtifactBytes: plan.maxDiskBytes,
      maxHeapBytes: plan.maxMemoryBytes,
    },
  );
}

/** Nothing stored here is visible before the row of the build names it. */
async function store(
  attempt: Attempt,
  outputs: readonly StagedOutput[],
  converted: ConvertedBuild,
  deps: AttemptDeps,
): Promise<readonly NewArtifact[]> {
  const encrypt = deps.encryptAll || attempt.claim.quotas.encryption;
  const target = { database: deps.database, artifacts: deps.artifacts, encrypt };
  const stored: NewArtifact[] = [];
  for (const [index, output] of outputs.entries()) {
    const claimed = converted.artifacts[index];
    if (claimed === undefined) {
      throw new BuilderdError('internal', `Cannot store ${output.format}: its maker gave none`);
    }
    stored.push(await storeOutput(attempt, output, claimed, target));
  }
  stored.push(await storeDocument(attempt, 'metadata.json', converted.metadataText, target));
  stored.push(await storeDocument(attempt, 'fidelity.json', converted.fidelityText, target));
  return stored;
}
