import type { Log } from '../../core/log.ts';
import type { ArtifactStore } from '../../store/artifacts/artifact-store.ts';
import { scrubBlobs } from '../../store/artifacts/check-blobs.ts';
import type { Database } from '../../store/database.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { repeat } from './repeat.ts';

/** Some minutes of gentle reading an hour: 100 GiB are read once a day. */
const SCRUB = { everyMs: 60 * 60_000, bytesPerSecond: 8 << 20, maxBytes: 4 * 1024 ** 3 };

/**
 * Reads stored artifacts again, those first that were not read for longest, until the signal: a disk
 * forgets silently, and a download is the worst moment to learn it. Damage is noted in the row, so
 * that downloads are refused and a new build heals it. An object store looks after its own disks,
 * and reading from it costs: it is left alone.
 */
export async function scrubArtifacts(
  {
    database,
    artifacts,
    metrics,
    log,
  }: {
    readonly database: Database;
    readonly artifacts: ArtifactStore;
    readonly metrics: Pick<Metrics, 'scrubErrors'>;
    readonly log: Log;
  },
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  if (artifacts.backend !== 'local') return;
  const work = async (): Promise<void> => {
    await scrubBlobs(database, artifacts, {
      ...SCRUB,
      signal,
      onFinding: (finding) => {
        if (finding.kind !== 'missing' && finding.kind !== 'corrupt') return;
        metrics.scrubErrors(1);
        log.error(
          { tenantId: finding.tenantId, code: `artifact.${finding.kind}` },
          'A stored artifact is damaged; builderd fsck tells more',
        );
      },
    });
  };
  await repeat(work, {
    everyMs: SCRUB.everyMs,
    signal,
    onFault: (err) => log.warn({ err, step: 'scrub' }, 'Scrub failed'),
  });
}
