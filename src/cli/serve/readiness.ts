import { parseHostFacts } from '../../builds/host-facts.ts';
import { messageOf } from '../../core/errors.ts';
import type { Database } from '../../store/database.ts';
import { listExecutors } from '../../store/executors.ts';
import { readNow } from '../../store/read-now.ts';

/** Three heartbeats of an executor. */
const SILENT_MS = 30_000;

/** Why builds cannot be taken now, as sentences; none when they can. */
export async function readProblems(
  database: Database,
  { signal }: { readonly signal: AbortSignal },
): Promise<string[]> {
  try {
    await database.ping({ signal });
    const now = await readNow(database);
    const alive = (await listExecutors(database)).filter(
      ({ heartbeatAt }) => now - heartbeatAt < SILENT_MS,
    );
    if (alive.length === 0) return ['No executor is running'];
    if (alive.every(({ draining }) => draining)) return ['Every executor is draining'];
    const able = alive.filter(
      ({ draining, capabilities }) =>
        !draining && parseHostFacts(capabilities).runtimeAvailable === true,
    );
    return able.length === 0 ? ['containerd does not answer on any host with an executor'] : [];
  } catch (reason) {
    return [`The database does not answer: ${messageOf(reason)}`];
  }
}
