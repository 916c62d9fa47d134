import type { TenantName } from '../../../core/ids.ts';
import type { Log } from '../../../core/log.ts';
import type { QuotaType } from '../../../core/quotas.ts';
import type { ArtifactStore } from '../../../store/artifacts/artifact-store.ts';
import type { Database } from '../../../store/database.ts';
import type { SealedSecrets } from '../../../store/secrets/sealed-secrets.ts';
import type { FollowerLimits } from '../../logs/follower-slots.ts';
import type { AdmissionLimits } from './admission.ts';

export interface BuildServiceOptions {
  readonly database: Database;
  readonly artifacts: Pick<ArtifactStore, 'open'>;
  readonly secrets: SealedSecrets;
  readonly limits: AdmissionLimits;
  readonly followers?: FollowerLimits;
  readonly log: Log;
  /** Counts a build that was cancelled while it waited, which no executor hears of. */
  readonly onCancelledWaiting?: () => void;
  /** Counts a refusal, for the metric. */
  readonly onViolation?: (tenant: TenantName, quotaType: QuotaType) => void;
}
