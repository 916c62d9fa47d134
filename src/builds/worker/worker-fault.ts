import { constants } from 'node:os';
import { BuilderdError } from '../../core/errors.ts';
import type { LaunchEnd } from './launch-report.ts';
import { harmless } from './parse-answer.ts';
import type { WorkerMount } from './worker-root.ts';

/** The host is short of something for a moment. */
const PASSING = new Set(['EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE', 'ENOSPC', 'EUSERS']);
/** A worker that crashes by itself ends with other signals. */
const FROM_OUTSIDE = new Set<number>([constants.signals.SIGKILL, constants.signals.SIGTERM]);
const MAX_SHOWN_CHARS = 300;
const HEAP_EXHAUSTED = /JavaScript heap out of memory|Reached heap limit|invalid table size/;

export interface DeathFacts {
  readonly end: LaunchEnd;
  readonly errorText: string;
  readonly oomKilled: boolean;
  readonly mounts: readonly WorkerMount[];
}

/** The fault behind an end without a usable answer; undefined when the worker ended well. */
export function faultOfEnd(facts: DeathFacts): BuilderdError | undefined {
  const { end } = facts;
  if (end.kind === 'lost') {
    return new BuilderdError(
      'build.lost',
      `Cannot convert the image: the launcher of its worker, ${end.fact}`,
    );
  }
  if (end.kind === 'refused') return refusal(end, facts.mounts);
  if (end.how === 'exit' && end.value === 0) return undefined;
  if (facts.oomKilled || HEAP_EXHAUSTED.test(facts.errorText)) {
    return new BuilderdError(
      'build.oom',
      'Cannot convert the image: it needs more memory than this build may use',
    );
  }
  const how =
    end.how === 'exit' ? `status ${end.value}` : (signalName(end.value) ?? `signal ${end.value}`);
  const said = lastWords(facts.errorText);
  return new BuilderdError(
    // Somebody or something of the host ended it: the next attempt may well succeed.
    end.how === 'signal' && FROM_OUTSIDE.has(end.value) ? 'build.lost' : 'internal',
    `Cannot convert the image: its worker ended with ${how}${said === '' ? '' : `, and said "${said}"`}`,
  );
}

function refusal(
  { step, value, errno }: Extract<LaunchEnd, { readonly kind: 'refused' }>,
  mounts: readonly WorkerMount[],
): BuilderdError {
  const name = errnoName(errno);
  const mount = /^(?:open_tree|bind|mount point|move_mount|read-only)$/.test(step)
    ? mounts[value]
    : undefined;
  const where = mount === undefined ? '' : ` of ${mount.source}`;
  return new BuilderdError(
    PASSING.has(name) ? 'service.unavailable' : 'isolation.unavailable',
    `Cannot isolate a worker: this host refuses the step "${harmless(step, 40)}"${where} (${name})`,
    { details: { step: harmless(step, 40), errno: name } },
  );
}

function lastWords(text: string): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  return harmless(lines.slice(-3).join(' / '), MAX_SHOWN_CHARS);
}

export function errnoName(errno: number): string {
  const found = Object.entries(constants.errno).find(([, number]) => number === errno);
  return found?.[0] ?? `errno ${errno}`;
}

function signalName(signal: number): string | undefined {
  return Object.entries(constants.signals).find(([, number]) => number === signal)?.[0];
}
