import type { OutputStream } from '../io.ts';

const ESC = '\u001b[';
const HIDE_CURSOR = `${ESC}?25l`;
const SHOW_CURSOR = `${ESC}?25h`;
/** Terminals that know it show the frame at once (synchronised output); others ignore it. */
const BEGIN_FRAME = `${ESC}?2026h`;
const END_FRAME = `${ESC}?2026l`;
const CLEAR_LINE_END = `${ESC}K`;
const CLEAR_BELOW = `${ESC}J`;

export const FRAME_MS = 100;

export interface FrameSize {
  readonly columns: number;
  readonly rows: number;
}

export interface LiveFrame {
  /** Repaints with these lines scrolled out above the frame; they are escaped already. */
  printAbove(lines: readonly string[]): void;
  /** Paints a last time and gives the terminal back. A repeat does nothing. */
  stop(): void;
}

/**
 * Lines that are repainted in place. Each frame is one write and overwrites line by line, so
 * nothing flickers. The size is read for each frame, so a resized window is right after 100 ms.
 * `paint` gives lines that fit; `atExit` gets work for a hard exit: the cursor must come back.
 */
export function startLiveFrame(
  out: OutputStream,
  {
    paint,
    atExit,
  }: {
    readonly paint: (size: FrameSize, final: boolean) => readonly string[];
    readonly atExit: (run: () => void) => void;
  },
): LiveFrame {
  let painted = 0;
  let stopped = false;
  const draw = (above: readonly string[], final: boolean): void => {
    const size = { columns: Math.max(20, out.columns ?? 80), rows: Math.max(4, out.rows ?? 24) };
    const frame = paint(size, final);
    const home = painted > 0 ? `${ESC}${painted}A\r` : '\r';
    const body = [...above, ...frame].map((line) => `${line}${CLEAR_LINE_END}\n`).join('');
    out.write(`${BEGIN_FRAME}${home}${body}${CLEAR_BELOW}${END_FRAME}`);
    painted = frame.length;
  };
  out.write(HIDE_CURSOR);
  // The view must not keep a finished process alive.
  const timer = setInterval(() => draw([], false), FRAME_MS).unref();
  const stop = (): void => {
    if (stopped) return;
    stopped = true;
    clearInterval(timer);
    draw([], true);
    out.write(SHOW_CURSOR);
  };
  atExit(stop);
  return {
    printAbove: (lines) => {
      if (!stopped) draw(lines, false);
    },
    stop,
  };
}
