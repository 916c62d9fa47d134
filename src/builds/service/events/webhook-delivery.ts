import type { Clock } from '../../../core/clock.ts';
import { BuilderdError } from '../../../core/errors.ts';
import type { Log } from '../../../core/log.ts';
import type { TenantId } from '../../../core/ids.ts';
import { detachedSignal } from '../../../core/scope.ts';
import type { Dialer } from '../../../egress/dialer.ts';
import { writeAudit } from '../../../store/audit/write-audit.ts';
import type { Database } from '../../../store/database.ts';
import type { SealedSecrets } from '../../../store/secrets/sealed-secrets.ts';
import {
  claimDeliveries,
  type ClaimedDelivery,
  type DeliveryResult,
  finishDelivery,
} from '../../../store/webhooks/delivery-rows.ts';
import { findTenantById } from '../../../store/tenants/find-tenant.ts';
import { disableWebhook } from '../../../store/webhooks/webhook-rows.ts';
import { type RetryPolicy, retryDelayMs, WEBHOOK_RETRIES } from './retry-delay.ts';
import { type SendResult, sendWebhook } from './send-webhook.ts';
import { webhookBody } from './webhook-body.ts';
import { webhookPlace } from './webhook-place.ts';

/** What became of one attempt; for a counter with these values as labels. */
export type DeliveryOutcome = 'delivered' | 'retried' | 'given_up' | 'disabled' | 'lost';

export interface WebhookDeliveryOptions {
  readonly database: Database;
  readonly secrets: SealedSecrets;
  /** With EGRESS_ALLOW; it alone decides which addresses are dialled. */
  readonly dialer: Dialer;
  readonly clock: Clock;
  readonly log: Log;
  readonly version: string;
  readonly onAttempt?: (outcome: DeliveryOutcome, durationMs: number) => void;
  readonly retries?: RetryPolicy;
  /** Attempts at once, and those for one tenant. */
  readonly concurrency?: number;
  readonly perTenant?: number;
  readonly pollMs?: number;
  readonly timeoutMs?: number;
  readonly random?: () => number;
}

const FINISH_TIMEOUT_MS = 10_000;
const MAX_PAUSE_MS = 30_000;

/**
 * Sends what is due until disposed. Any number of processes may run one: each attempt is claimed,
 * and only the holder of the claim writes its outcome. A receiver may see a delivery twice when a
 * process dies in between; its id is the same then.
 */
export function startWebhookDelivery(options: WebhookDeliveryOptions): AsyncDisposable {
  const { database, log, concurrency = 16, perTenant = 4, pollMs = 2000 } = options;
  const stop = new AbortController();
  const busy = new Map<string, TenantId>();
  const sending = new Set<Promise<void>>();
  let wake = (): void => undefined;
  let isDue = true;
  const ring = (): void => {
    isDue = true;
    wake();
  };

  const sendAll = async (): Promise<void> => {
    const limit = concurrency - sending.size;
    if (limit <= 0) return;
    const claims = await claimDeliveries(database, {
      limit,
      perTenant,
      busy,
      signal: stop.signal,
    });
    for (const claim of claims) {
      const attempt = deliver(claim, options, stop.signal)
        .catch((err: unknown) =>
          log.error({ err, tenantId: claim.tenantId }, 'Webhook attempt failed'),
        )
        .finally(() => {
          busy.delete(claim.webhook.id);
          sending.delete(attempt);
          ring();
        });
      busy.set(claim.webhook.id, claim.tenantId);
      sending.add(attempt);
    }
  };

  const run = async (): Promise<void> => {
    let pauseMs = 1000;
    while (!stop.signal.aborted) {
      if (!isDue) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      isDue = false;
      try {
        await sendAll();
        pauseMs = 1000;
      } catch (err) {
        if (stop.signal.aborted) break;
        log.warn({ err, durationMs: pauseMs }, 'Cannot look for webhook deliveries; waiting');
        await pause(pauseMs, stop.signal);
        pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
        isDue = true;
      }
    }
  };

  const bell = database.listen('events', ring, { pollMs });
  stop.signal.addEventListener('abort', () => wake(), { once: true });
  const running = run();
  return {
    async [Symbol.asyncDispose]() {
      bell[Symbol.dispose]();
      stop.abort(new BuilderdError('service.unavailable', 'Cannot send webhooks: it is stopping'));
      await running;
      await Promise.all(sending);
    },
  };
}

async function deliver(
  claim: ClaimedDelivery,
  options: WebhookDeliveryOptions,
  signal: AbortSignal,
): Promise<void> {
  const { database, log, onAttempt, random = Math.random, retries = WEBHOOK_RETRIES } = options;
  const startedAt = performance.now();
  const result = await attempt(claim, options, signal);
  const verdict = judge(claim, result, retries, random());
  const outcome = await database.transaction(
    async (tx): Promise<DeliveryOutcome> => {
      // The lock that `appendEvent` takes, so that nothing is queued for what is being disabled.
      if (verdict.disable !== undefined) await findTenantById(tx, claim.tenantId, { lock: true });
      if (!(await finishDelivery(tx, claim, verdict.result))) return 'lost';
      if (verdict.disable === undefined) return verdict.outcome;
      if (await disableWebhook(tx, claim.webhook.id, verdict.disable)) {
        await writeAudit(tx, SYSTEM, {
          tenantId: claim.tenantId,
          action: 'webhook.disable',
          target: claim.webhook.id,
          newValue: { reason: verdict.disable },
        });
      }
      return 'disabled';
    },
    // Not the signal that stops the loop: what the receiver has got must be written down.
    { signal: detachedSignal(FINISH_TIMEOUT_MS) },
  );
  onAttempt?.(outcome, performance.now() - startedAt);
  if (outcome === 'disabled') log.warn({ tenantId: claim.tenantId }, 'Webhook disabled');
}

const SYSTEM = { actor: 'local', requestId: '', address: 'local' };

async function attempt(
  claim: ClaimedDelivery,
  { secrets, log, dialer, clock, version, timeoutMs }: WebhookDeliveryOptions,
  signal: AbortSignal,
): Promise<SendResult | 'stopped' | 'expired'> {
  if (claim.event === undefined) return 'expired';
  let secret: string;
  try {
    const place = webhookPlace(claim.tenantId, claim.webhook.id);
    secret = secrets.open(place, claim.webhook.sealed).toString('utf8');
  } catch (err) {
    // Another process may have the key that this one lacks.
    log.error({ err, tenantId: claim.tenantId }, "Cannot open a webhook's secret");
    return { kind: 'refused', error: 'its secret cannot be opened' };
  }
  try {
    return await sendWebhook(
      {
        url: new URL(claim.webhook.url),
        secret,
        deliveryId: claim.id,
        type: claim.event.type,
        body: webhookBody(claim.id, claim.tenant, claim.event),
      },
      { dialer, clock, version, signal, ...(timeoutMs === undefined ? {} : { timeoutMs }) },
    );
  } catch (reason) {
    if (signal.aborted) return 'stopped';
    throw reason;
  }
}

interface Verdict {
  readonly outcome: DeliveryOutcome;
  readonly result: DeliveryResult;
  readonly disable?: string;
}

function judge(
  claim: ClaimedDelivery,
  result: SendResult | 'stopped' | 'expired',
  retries: RetryPolicy,
  random: number,
): Verdict {
  if (result === 'stopped') {
    const again = { delivered: false, error: 'builderd was stopped meanwhile', retryInMs: 0 };
    return { outcome: 'retried', result: again };
  }
  if (result === 'expired') {
    return { outcome: 'given_up', result: { delivered: false, error: 'the event is too old' } };
  }
  if (result.kind === 'delivered') {
    return { outcome: 'delivered', result: { delivered: true, status: result.status } };
  }
  const { status, error } = result;
  const failed = { delivered: false, error, ...(status === undefined ? {} : { status }) };
  if (result.kind === 'gone') return { outcome: 'disabled', result: failed, disable: error };
  const retryInMs = retryDelayMs(claim.attempt, retries, random, result.retryAfterMs);
  if (retryInMs !== undefined) return { outcome: 'retried', result: { ...failed, retryInMs } };
  // Given up. A receiver that took nothing in all that time is not there any more.
  const isDead = (claim.webhook.lastSuccessAt ?? 0) < claim.createdAt;
  return {
    outcome: 'given_up',
    result: failed,
    ...(isDead ? { disable: `${claim.attempt} attempts failed: ${error}` } : {}),
  };
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
