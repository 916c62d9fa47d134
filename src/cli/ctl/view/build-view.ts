import { styleText } from 'node:util';
import { oneLine } from '../../print-fault.ts';
import { startLiveFrame } from '../../progress/live-frame.ts';
import type { Build, LogEntry } from '../client/answers.ts';
import { safeJson } from '../client/bounded-json.ts';
import type { CtlHost } from '../ctl-host.ts';
import { paintBuild } from './paint-build.ts';
import { logText } from './log-text.ts';

/** Shows a build that is followed, on stderr. */
export interface BuildView {
  onBuild(build: Build): void;
  onLog(entry: LogEntry): void;
  onNote(text: string): void;
  /** Leaves the terminal as it was. A repeat does nothing. */
  stop(): void;
}

const nothing = (): void => undefined;
const SILENT: BuildView = { onBuild: nothing, onLog: nothing, onNote: nothing, stop: nothing };

export function chooseBuildView(
  { progress, quiet }: { readonly progress: string; readonly quiet: boolean },
  host: CtlHost,
): BuildView {
  if (quiet) return SILENT;
  if (progress === 'json') return jsonView(host);
  return progress === 'plain' || host.stderr.isTTY !== true ? plainView(host) : liveView(host);
}

/** One object per line: `{"type": "build" | "log" | "note", …}`. */
function jsonView({ stderr }: CtlHost): BuildView {
  const line = (value: object): void => void stderr.write(`${safeJson(value)}\n`);
  let known = '';
  return {
    onBuild: (build) => {
      const { id, state, progressPercent, currentStep, waiting } = build;
      const facts = { type: 'build', id, state, progressPercent, currentStep, waiting };
      const text = JSON.stringify(facts);
      if (text !== known) line(facts);
      known = text;
    },
    onLog: (entry) => line({ type: 'log', ...entry }),
    onNote: (message) => line({ type: 'note', message }),
    stop: nothing,
  };
}

/** A line for each change of state or of the reason to wait, and the log. */
function plainView({ stderr }: CtlHost): BuildView {
  const line = (text: string): void => void stderr.write(`${oneLine(text)}\n`);
  let known = '';
  return {
    onBuild: ({ id, state, waiting }) => {
      // The message may count seconds down: that alone is no news.
      const now = `${state} ${waiting?.reason} ${waiting?.ahead}`;
      if (now === known) return;
      known = now;
      line(`Build ${id} is ${state}${waiting === undefined ? '' : `: ${waiting.message}`}`);
    },
    onLog: (entry) => void stderr.write(logText(entry)),
    onNote: (text) => line(`note: ${text}`),
    stop: nothing,
  };
}

/** A frame that is repainted in place; the log scrolls above it. */
function liveView(host: CtlHost): BuildView {
  let build: Build | undefined;
  const frame = startLiveFrame(host.stderr, {
    atExit: (run) => host.atExit(run),
    paint: (size, final) =>
      build === undefined
        ? []
        : paintBuild(build, {
            ...size,
            final,
            nowMs: host.nowMs(),
            paint: (format, text) => styleText(format, text, { stream: process.stderr }),
          }),
  });
  return {
    onBuild: (next) => {
      build = next;
    },
    onLog: (entry) => frame.printAbove(logText(entry).trimEnd().split('\n')),
    onNote: (text) => frame.printAbove([oneLine(`note: ${text}`)]),
    stop: () => frame.stop(),
  };
}
