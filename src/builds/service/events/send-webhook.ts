import type { Clock } from '../../../core/clock.ts';
import { isBuilderdError } from '../../../core/errors.ts';
import type { Dialer, EgressResponse } from '../../../egress/dialer.ts';
import { signWebhook, SIGNATURE_HEADER } from './webhook-signature.ts';

export interface WebhookCall {
  readonly url: URL;
  readonly secret: string;
  readonly deliveryId: string;
  readonly type: string;
  readonly body: string;
}

export type SendResult =
  | { readonly kind: 'delivered'; readonly status: number }
  | {
      readonly kind: 'refused';
      readonly status?: number;
      readonly error: string;
      readonly retryAfterMs?: number;
    }
  /** 410: the receiver wants no more. */
  | { readonly kind: 'gone'; readonly status: number; readonly error: string };

const TIMEOUT_MS = 10_000;
/** Read so that the connection ends well; more is cut off. Nothing of it is kept. */
const MAX_ANSWER_BYTES = 64 * 1024;
const MAX_RETRY_AFTER_SECONDS = 3600;

/** One POST to one receiver. Redirects are refusals: they could lead anywhere, with our signature. */
export async function sendWebhook(
  call: WebhookCall,
  {
    dialer,
    clock,
    version,
    signal,
    timeoutMs = TIMEOUT_MS,
  }: {
    readonly dialer: Dialer;
    readonly clock: Clock;
    readonly version: string;
    readonly signal: AbortSignal;
    readonly timeoutMs?: number;
  },
): Promise<SendResult> {
  const limit = AbortSignal.timeout(timeoutMs);
  try {
    const answer = await dialer.request(call.url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'user-agent': `builderd/${version}`,
        'builderd-event': call.type,
        'builderd-delivery': call.deliveryId,
        [SIGNATURE_HEADER]: signWebhook(call.secret, clock.now(), call.body),
      },
      body: call.body,
      signal: AbortSignal.any([signal, limit]),
    });
    await drain(answer);
    return classify(answer);
  } catch (reason) {
    if (signal.aborted) throw reason;
    if (limit.aborted) return refused(`no answer in ${timeoutMs / 1000} s`);
    // A constant for each: what our resolver or network says is not the tenant's to read.
    if (isBuilderdError(reason, 'source.denied_address'))
      return refused('its address is not public');
    if (isBuilderdError(reason, 'source.unreachable')) return refused('it cannot be reached');
    if (isBuilderdError(reason, 'source.invalid')) return refused('its answer is not valid HTTP');
    throw reason;
  }
}

function classify(answer: EgressResponse): SendResult {
  const { status } = answer;
  if (status >= 200 && status < 300) return { kind: 'delivered', status };
  const error = `it answered ${status}`;
  if (status === 410) return { kind: 'gone', status, error };
  if (status >= 300 && status < 400) {
    return { ...refused(`${error}; redirects are not followed`), status };
  }
  const retryAfterMs = parseRetryAfter(answer.header('retry-after'));
  return { ...refused(error), status, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
}

function refused(error: string): Extract<SendResult, { kind: 'refused' }> {
  return { kind: 'refused', error };
}

/** Seconds only; a date would need the receiver's clock. */
function parseRetryAfter(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,9}$/.test(text)) return undefined;
  return Math.min(Number(text), MAX_RETRY_AFTER_SECONDS) * 1000;
}

async function drain(answer: EgressResponse): Promise<void> {
  let read = 0;
  for await (const chunk of answer.body) {
    read += chunk.length;
    if (read > MAX_ANSWER_BYTES) break;
  }
}
