import type { OutputStream } from '../io.ts';
import type { ProgressView } from './progress-view.ts';

/** One JSON object per event and line, with milliseconds since the start. */
export function createJsonView(out: OutputStream, nowMs: () => number): ProgressView {
  const startMs = nowMs();
  let stopped = false;
  return {
    onProgress: (event) => {
      if (stopped) return;
      const atMs = Math.round(nowMs() - startMs);
      out.write(`${JSON.stringify({ type: 'progress', atMs, ...event })}\n`);
    },
    stop: () => {
      stopped = true;
    },
  };
}
