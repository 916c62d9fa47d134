import type { BuildPhase, ProgressEvent } from '../../core/progress.ts';
import type { OutputStream } from '../io.ts';
import { oneLine } from '../print-fault.ts';
import { FRAME_MS, startLiveFrame } from './live-frame.ts';
import { paintFrame, type Paint } from './paint.ts';
import { applyProgress, emptyProgress, phaseTotals } from './progress-state.ts';
import type { ProgressView } from './progress-view.ts';

/** A rate over the last seconds: steady enough to read, quick enough to show a stall. */
const RATE_WINDOW_MS = 3000;

export interface TerminalOptions {
  readonly nowMs: () => number;
  readonly paint: Paint;
  /** Called with work for a hard exit: the cursor must come back. */
  readonly atExit: (run: () => void) => void;
}

/** A live view that repaints in place; notices scroll above it. */
export function createTerminalView(out: OutputStream, options: TerminalOptions): ProgressView {
  const { nowMs, paint, atExit } = options;
  const state = emptyProgress();
  const rates = new RateMeter();
  let stopped = false;

  const frame = startLiveFrame(out, {
    atExit,
    paint: (size, final) => {
      const now = nowMs();
      const current = [...state.phases.values()].find((phase) => phase.doneMs === undefined);
      const moved = current === undefined ? 0 : phaseTotals(current).movedBytes;
      const rate = rates.sample(current?.phase, moved, now);
      return paintFrame(state, { nowMs: now, ...size, paint, rate, final });
    },
  });
  const onProgress = (event: ProgressEvent): void => {
    if (stopped) return;
    applyProgress(state, event, nowMs());
    if (event.kind !== 'notice') return;
    const mark = event.level === 'warning' ? paint('yellow', 'warning:') : 'note:';
    frame.printAbove([`${mark} ${oneLine(event.message)}`]);
  };
  const stop = (): void => {
    stopped = true;
    frame.stop();
  };
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
