import type { BuildPhase, ProgressEvent } from '../../core/progress.ts';
import type { OutputStream } from '../io.ts';
import { oneLine } from '../print-fault.ts';
import { paintFrame, type Paint } from './paint.ts';
import { applyProgress, emptyProgress, phaseTotals } from './progress-state.ts';
import type { ProgressView } from './progress-view.ts';

const ESC = '\u001b[';
const HIDE_CURSOR = `${ESC}?25l`;
const SHOW_CURSOR = `${ESC}?25h`;
/** Terminals that know it show the frame at once (synchronised output); others ignore it. */
const BEGIN_FRAME = `${ESC}?2026h`;
const END_FRAME = `${ESC}?2026l`;
const CLEAR_LINE_END = `${ESC}K`;
const CLEAR_BELOW = `${ESC}J`;

const FRAME_MS = 100;
/** A rate over the last seconds: steady enough to read, quick enough to show a stall. */
const RATE_WINDOW_MS = 3000;

export interface TerminalOptions {
  readonly nowMs: () => number;
  readonly paint: Paint;
  /** Called with work for a hard exit: the cursor must come back. */
  readonly atExit: (run: () => void) => void;
}

/**
 * A live view that repaints in place. Each frame is one write and overwrites line by line, so
 * nothing flickers; notices scroll above it. The size is read for each frame, so a resized window
 * is right after at most 100 ms.
 */
export function createTerminalView(out: OutputStream, options: TerminalOptions): ProgressView {
  const { nowMs, paint } = options;
  const state = emptyProgress();
  const rates = new RateMeter();
  let painted = 0;
  let stopped = false;

  const draw = (above: string, final: boolean): void => {
    const now = nowMs();
    const current = [...state.phases.values()].find((phase) => phase.doneMs === undefined);
    const moved = current === undefined ? 0 : phaseTotals(current).movedBytes;
    const rate = rates.sample(current?.phase, moved, now);
    const frame = paintFrame(state, {
      nowMs: now,
      columns: Math.max(20, out.columns ?? 80),
      rows: Math.max(4, out.rows ?? 24),
      paint,
      rate,
      final,
    });
    const home = painted > 0 ? `${ESC}${painted}A\r` : '\r';
    const body = frame.map((line) => `${line}${CLEAR_LINE_END}\n`).join('');
    out.write(`${BEGIN_FRAME}${home}${above}${body}${CLEAR_BELOW}${END_FRAME}`);
    painted = frame.length;
  };
  const onProgress = (event: ProgressEvent): void => {
    if (stopped) return;
    applyProgress(state, event, nowMs());
    if (event.kind !== 'notice') return;
    const mark = event.level === 'warning' ? paint('yellow', 'warning:') : 'note:';
    draw(`${mark} ${oneLine(event.message)}${CLEAR_LINE_END}\n`, false);
  };
  const stop = (): void => {
    if (stopped) return;
    stopped = true;
    clearInterval(timer);
    draw('', true);
    out.write(SHOW_CURSOR);
  };

  out.write(HIDE_CURSOR);
  // The view must not keep a finished process alive.
  const timer = setInterval(() => draw('', false), FRAME_MS).unref();
  options.atExit(stop);
  return { onProgress, stop };
}

class RateMeter {
  #phase: BuildPhase | undefined;
  #samples: { readonly atMs: number; readonly bytes: number }[] = [];

  sample(phase: BuildPhase | undefined, bytes: number, atMs: number): number {
    if (phase !== this.#phase) this.#samples = [];
    this.#phase = phase;
    this.#samples.push({ atMs, bytes });
    while (this.#samples.length > 2 && atMs - (this.#samples[0]?.atMs ?? atMs) > RATE_WINDOW_MS) {
      this.#samples.shift();
    }
    const first = this.#samples[0];
    if (first === undefined || atMs - first.atMs < FRAME_MS) return 0;
    return Math.max(0, ((bytes - first.bytes) * 1000) / (atMs - first.atMs));
  }
}
