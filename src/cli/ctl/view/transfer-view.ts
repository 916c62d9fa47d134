import { messageOf } from '../../../core/errors.ts';
import { formatBytes } from '../../../core/units.ts';
import { oneLine } from '../../print-fault.ts';
import type { CtlHost } from '../ctl-host.ts';

export interface TransferView extends Disposable {
  readonly onProgress: (doneBytes: number) => void;
  readonly onCut: (reason: unknown) => void;
}

const REDRAW_MS = 100;
const BAR = 30;

/** One line that moves on a terminal; elsewhere only cuts are told. On stderr. */
export function createTransferView(
  host: CtlHost,
  about: { readonly name: string; readonly sizeBytes: number; readonly isSilent: boolean },
): TransferView {
  const { stderr, nowMs } = host;
  const isLive = stderr.isTTY === true && !about.isSilent;
  const name = oneLine(about.name.slice(0, 40));
  let drawnMs = Number.NEGATIVE_INFINITY;
  const clear = (): void => {
    if (isLive && drawnMs !== Number.NEGATIVE_INFINITY) stderr.write('\r\u001b[K');
  };
  return {
    onProgress: (doneBytes) => {
      if (!isLive || nowMs() - drawnMs < REDRAW_MS) return;
      drawnMs = nowMs();
      const filled = Math.round((BAR * doneBytes) / Math.max(1, about.sizeBytes));
      const bar = `${'━'.repeat(filled)}${'─'.repeat(BAR - filled)}`;
      stderr.write(
        `\r${name} ${bar} ${formatBytes(doneBytes)} / ${formatBytes(about.sizeBytes)}\u001b[K`,
      );
    },
    onCut: (reason) => {
      clear();
      if (!about.isSilent)
        stderr.write(`note: ${oneLine(messageOf(reason))}; going on from there\n`);
    },
    [Symbol.dispose]: clear,
  };
}
