import { formatBytes, formatDuration } from '../../core/units.ts';
import { oneLine } from '../print-fault.ts';
import { phaseTotals, type Item, type PhaseState, type ProgressState } from './progress-state.ts';
import { PHASE_TITLES, shortId } from './progress-view.ts';

export type Paint = (format: 'bold' | 'dim' | 'green' | 'cyan' | 'yellow', text: string) => string;

export interface FrameOptions {
  readonly nowMs: number;
  readonly columns: number;
  readonly rows: number;
  readonly paint: Paint;
  /** Bytes per second of the phase that runs. */
  readonly rate: number;
  /** The build is over: nothing spins and no bars remain. */
  readonly final: boolean;
}

const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const TITLE_WIDTH = 8;

/** The whole live view as lines that fit the terminal: never wider, never taller. */
export function paintFrame(state: ProgressState, options: FrameOptions): string[] {
  const lines: string[] = [];
  const phases = [...state.phases.values()];
  let room = Math.max(0, options.rows - phases.length - 2);
  for (const phase of phases) {
    lines.push(phaseLine(phase, options));
    if (options.final || phase.doneMs !== undefined) continue;
    const running = [...phase.items.values()].filter((item) => item.state === 'running');
    const shown = running.slice(0, running.length > room ? Math.max(0, room - 1) : room);
    for (const item of shown) lines.push(itemLine(item, options));
    const hidden = running.length - shown.length;
    if (hidden > 0 && room > 0) lines.push(options.paint('dim', `    … and ${hidden} more`));
    room -= Math.min(room, running.length);
  }
  return lines;
}

function phaseLine(phase: PhaseState, options: FrameOptions): string {
  const { nowMs, columns, paint, rate, final } = options;
  const done = phase.doneMs !== undefined;
  const totals = phaseTotals(phase);
  const facts: string[] = [];
  if (totals.items > 1) facts.push(`${totals.doneItems}/${totals.items}`);
  if (totals.items > 0) {
    const size = formatBytes(totals.doneBytes);
    facts.push(
      done || totals.totalBytes === undefined
        ? size
        : `${size} of ${formatBytes(totals.totalBytes)}`,
    );
  }
  if (!done && !final && rate > 0) facts.push(`${formatBytes(rate)}/s`);
  facts.push(formatDuration((phase.doneMs ?? nowMs) - phase.startedMs));
  if (phase.detail !== undefined) facts.push(oneLine(phase.detail));
  const title = PHASE_TITLES[phase.phase].padEnd(TITLE_WIDTH);
  const text = clip(facts.join('  '), columns - TITLE_WIDTH - 4);
  if (done) return `${paint('green', '✔')} ${title} ${paint('dim', text)}`;
  if (final) return `${paint('yellow', '✘')} ${title} ${paint('dim', text)}`;
  const frame = SPINNER[Math.floor(nowMs / 100) % SPINNER.length] ?? '';
  return `${paint('cyan', frame)} ${paint('bold', title)} ${text}`;
}

function itemLine(item: Item, { columns, paint }: FrameOptions): string {
  const name = clip(oneLine(shortId(item.id)), 24).padEnd(24);
  const done = formatBytes(item.doneBytes).padStart(10);
  const width = Math.min(30, columns - 24 - 10 - 22);
  if (item.totalBytes === undefined || width < 6) {
    return clip(`    ${name} ${done}`, columns - 1);
  }
  const share = item.totalBytes === 0 ? 1 : Math.min(1, item.doneBytes / item.totalBytes);
  const filled = Math.round(share * width);
  const bar = paint('cyan', '━'.repeat(filled)) + paint('dim', '─'.repeat(width - filled));
  return `    ${name} ${bar} ${done} / ${formatBytes(item.totalBytes)}`;
}

/** Counts one column per character: what reaches it is escaped and nearly always ASCII. */
export function clip(text: string, columns: number): string {
  if (text.length <= columns) return text;
  return columns <= 1 ? '' : `${text.slice(0, columns - 1)}…`;
}
