import { formatBytes } from '../../../core/units.ts';
import type { Build } from '../client/answers.ts';
import { object, optional, text } from '../client/fields.ts';
import { facts, table } from './table.ts';
import { between, shortTime } from './times.ts';
import { told } from './told.ts';

export function isOver(state: string): boolean {
  return state === 'completed' || state === 'failed' || state === 'cancelled';
}

const address = optional(object({ url: text }));
const specSource = object({
  source: optional(
    object({ image: optional(object({ reference: text })), git: address, archive: address }),
  ),
});

/** What is built, as it was asked for. */
export function sourceOf({ spec }: Build): string | undefined {
  const { source } = specSource(spec, 'the request');
  return source?.image?.reference ?? source?.git?.url ?? source?.archive?.url;
}

/** How far it is, or why it waits: one short text. */
export function progressOf(build: Build): string {
  if (build.waiting !== undefined) return `${build.waiting.ahead} ahead`;
  if (build.state === 'completed') return '100 %';
  if (isOver(build.state)) return build.error?.code ?? '';
  return `${Math.floor(build.progressPercent)} %`;
}

/** A build for people: all that explains what it does, in the order in which one asks. */
export function buildFacts(build: Build): string {
  const { waiting, error, source } = build;
  const labels = Object.entries(build.labels).map(([key, value]) => `${key}=${value}`);
  const head = facts([
    ['Build', build.id],
    ['Tenant', build.tenant],
    [
      'State',
      build.cancelRequested && !isOver(build.state)
        ? `${build.state}, being cancelled`
        : build.state,
    ],
    ['Waits', waiting?.message],
    [
      'Progress',
      isOver(build.state)
        ? undefined
        : `${Math.floor(build.progressPercent)} % ${build.currentStep}`,
    ],
    ['Name', build.name],
    ['Labels', labels.join(' ')],
    ['Source', source?.reference ?? sourceOf(build)],
    ['Digest', source?.digest],
    ['Created', shortTime(build.createdAt)],
    ['Started', shortTime(build.startedAt)],
    ['Finished', shortTime(build.finishedAt)],
    ['Took', between(build.startedAt, build.finishedAt)],
    ['Attempt', build.attempt > 1 ? build.attempt : undefined],
    [
      'Error',
      error === undefined ? undefined : `${error.message} (${error.code}, fault: ${error.fault})`,
    ],
    ['Next', error?.hint],
  ]);
  return `${head}${stepTable(build)}${artifactTable(build)}`;
}

function stepTable({ steps }: Build): string {
  if (steps.length === 0) return '';
  const rows = steps.map((step) => [
    step.state,
    step.name,
    shortTime(step.startedAt),
    between(step.startedAt, step.finishedAt),
    step.outcome,
  ]);
  return `\n${table(['STEP', 'NAME', 'STARTED', 'TOOK', 'OUTCOME'], rows)}`;
}

export function artifactTable({ artifacts }: Pick<Build, 'artifacts'>): string {
  if (artifacts.length === 0) return '';
  const rows = artifacts.map((each) => [each.name, formatBytes(each.sizeBytes), each.digest]);
  return `\n${table(['ARTIFACT', 'SIZE', 'DIGEST'], rows)}`;
}

/** What is said when a followed build has ended well. */
export function builtText(build: Build, files: readonly string[]): string {
  const took = between(build.startedAt, build.finishedAt);
  const head = told`Build ${build.id} is completed${took === undefined ? '' : ` in ${took}`}\n`;
  const saved = files.map((file) => told`  saved ${file}\n`).join('');
  const table = artifactTable(build);
  const next =
    files.length > 0 || table === ''
      ? ''
      : told`\nFetch them: builderctl artifacts get ${build.id}\n`;
  return `${head}${saved}${table}${next}`;
}
