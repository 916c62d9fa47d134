import { formatDuration } from '../../../core/units.ts';
import { oneLine } from '../../print-fault.ts';
import { clip, type Paint } from '../../progress/paint.ts';
import type { Build } from '../client/answers.ts';
import { isOver } from './build-text.ts';
import { between } from './times.ts';

export interface BuildFrame {
  readonly columns: number;
  readonly rows: number;
  readonly nowMs: number;
  readonly paint: Paint;
  readonly final: boolean;
}

const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const TITLE_WIDTH = 11;
const BAR_WIDTH = 24;

/** A build as lines that fit the terminal: steps that are done, then what it does or waits for. */
export function paintBuild(build: Build, frame: BuildFrame): string[] {
  const lines = [clip(`Build ${oneLine(build.id)}`, frame.columns - 1)];
  const steps = build.steps.filter(({ attempt }) => attempt === build.attempt);
  for (const step of steps.slice(-Math.max(0, frame.rows - 3))) {
    if (step.finishedAt === undefined) continue;
    const isGood =
      step.outcome === undefined || step.outcome === 'completed' || step.outcome === 'done';
    const mark = isGood ? frame.paint('green', '✔') : frame.paint('yellow', '✘');
    lines.push(
      `${mark} ${titled(step.state, between(step.startedAt, step.finishedAt) ?? '', frame)}`,
    );
  }
  if (!isOver(build.state)) lines.push(currentLine(build, frame));
  return lines;
}

function currentLine(build: Build, frame: BuildFrame): string {
  const { nowMs, paint, final } = frame;
  const mark = final ? '·' : paint('cyan', SPINNER[Math.floor(nowMs / 100) % SPINNER.length] ?? '');
  const { waiting } = build;
  if (waiting !== undefined) {
    const ahead = waiting.ahead === 0 ? '' : `${waiting.ahead} ahead  `;
    return `${mark} ${titled('waiting', `${ahead}${waiting.message}  ${since(build.createdAt, nowMs)}`, frame)}`;
  }
  const percent = Math.min(100, Math.max(0, build.progressPercent));
  const filled = Math.round((percent / 100) * BAR_WIDTH);
  const time = since(build.startedAt ?? build.createdAt, nowMs);
  const word = build.cancelRequested ? 'cancelling' : build.state;
  const facts = `${String(Math.floor(percent)).padStart(3)} %  ${time}  ${build.currentStep}`;
  if (frame.columns < TITLE_WIDTH + BAR_WIDTH + 30) return `${mark} ${titled(word, facts, frame)}`;
  const bar = paint('cyan', '━'.repeat(filled)) + paint('dim', '─'.repeat(BAR_WIDTH - filled));
  const room = frame.columns - TITLE_WIDTH - BAR_WIDTH - 6;
  return `${mark} ${paint('bold', title(word))} ${bar} ${clip(oneLine(facts), room)}`;
}

function titled(word: string, facts: string, { columns, paint }: BuildFrame): string {
  return `${paint('bold', title(word))} ${clip(oneLine(facts), columns - TITLE_WIDTH - 4)}`;
}

function title(word: string): string {
  return clip(oneLine(word), TITLE_WIDTH).padEnd(TITLE_WIDTH);
}

/** The clock of the server may differ from ours; less than nothing is shown as nothing. */
function since(time: string, nowMs: number): string {
  return formatDuration(Math.max(0, nowMs - Date.parse(time)));
}
