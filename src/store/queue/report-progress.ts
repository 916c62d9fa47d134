import type { Db } from '../database.ts';
import type { Fenced } from './claim.ts';
import { holdBuild } from './hold-build.ts';

/** Writes how far an attempt is; never back. No event: watchers read the row. Throws `build.lost`. */
export async function reportProgress(
  tx: Db,
  fenced: Fenced,
  { progress }: { readonly progress: number },
): Promise<void> {
  const held = await holdBuild(tx, fenced);
  const percent = wholePercent(progress);
  if (percent <= held.progress) return;
  await tx.k
    .updateTable('builds')
    .set({ progress: percent, updated_at: tx.now })
    .where('id', '=', fenced.buildId)
    .execute();
}

/** 100 is for completed builds alone. */
export function wholePercent(progress: number): number {
  return Number.isFinite(progress) ? Math.min(99, Math.max(0, Math.floor(progress))) : 0;
}
