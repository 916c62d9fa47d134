import type { ProgressEvent } from '../../core/progress.ts';
import { formatBytes, formatDuration } from '../../core/units.ts';
import type { OutputStream } from '../io.ts';
import { oneLine } from '../print-fault.ts';
import { applyProgress, emptyProgress, phaseTotals } from './progress-state.ts';
import { PHASE_DOING, PHASE_TITLES, shortId, type ProgressView } from './progress-view.ts';

/** One line per phase and per finished blob, for pipes, logs and CI. */
export function createPlainView(out: OutputStream, nowMs: () => number): ProgressView {
  const state = emptyProgress();
  let stopped = false;
  const line = (text: string): void => void out.write(`${oneLine(text)}\n`);

  const onProgress = (event: ProgressEvent): void => {
    if (stopped) return;
    applyProgress(state, event, nowMs());
    switch (event.kind) {
      case 'notice':
        line(`${event.level === 'warning' ? 'warning' : 'note'}: ${event.message}`);
        return;
      case 'bytes': {
        if (event.state === 'running') return;
        const size = formatBytes(event.totalBytes ?? event.doneBytes);
        const verb = event.state === 'reused' ? 'already there' : 'done';
        line(`  ${shortId(event.id)} ${size} ${verb}`);
        return;
      }
      case 'phase': {
        const phase = state.phases.get(event.phase);
        if (phase === undefined) return;
        const detail = event.detail === undefined ? '' : `: ${event.detail}`;
        if (phase.doneMs === undefined) {
          line(`${PHASE_DOING[event.phase]}${detail}`);
          return;
        }
        const { movedBytes } = phaseTotals(phase);
        const moved = movedBytes === 0 ? '' : `, ${formatBytes(movedBytes)}`;
        const time = formatDuration(phase.doneMs - phase.startedMs);
        line(`${PHASE_TITLES[event.phase]} done in ${time}${moved}${detail}`);
        return;
      }
    }
  };
  return {
    onProgress,
    stop: () => {
      stopped = true;
    },
  };
}
