import { styleText } from 'node:util';
import type { Io } from '../io.ts';
import { createJsonView } from './json-view.ts';
import { createPlainView } from './plain-view.ts';
import type { ProgressView } from './progress-view.ts';
import { createTerminalView } from './terminal-view.ts';

const nowMs = (): number => performance.now();

const SILENT: ProgressView = { onProgress: () => undefined, stop: () => undefined };

export interface ViewChoice {
  readonly progress: string;
  readonly quiet: boolean;
}

/** Progress goes to stderr, so that stdout holds the result alone. */
export function chooseView({ progress, quiet }: ViewChoice, io: Io): ProgressView {
  if (quiet) return SILENT;
  if (progress === 'json') return createJsonView(io.stderr, nowMs);
  if (progress === 'plain' || io.stderr.isTTY !== true) return createPlainView(io.stderr, nowMs);
  return createTerminalView(io.stderr, {
    nowMs,
    // Without a stream to ask, styleText looks at NO_COLOR, FORCE_COLOR and stderr by itself.
    paint: (format, text) => styleText(format, text, { stream: process.stderr }),
    atExit: (run) => io.atExit(run),
  });
}
