import { setTimeout as after } from 'node:timers/promises';
import { BuilderdError, isBuilderdError } from '../../../core/errors.ts';
import { parseJson } from './bounded-json.ts';
import type { Connection, HttpAnswer, HttpRequest } from './connection.ts';
import type { Parse } from './fields.ts';
import { faultOfAnswer, RemoteFault } from './remote-fault.ts';

export type QueryValues = Readonly<
  Record<string, string | number | boolean | readonly string[] | undefined>
>;

export interface Ask {
  readonly method?: HttpRequest['method'];
  readonly query?: QueryValues;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly doing: string;
  /** May it be sent again when nobody knows whether it arrived? Default: all but POST and PATCH. */
  readonly repeatable?: boolean;
  /** False for routes of operators that are about no tenant, or name theirs in the path. */
  readonly inTenant?: boolean;
  readonly signal: AbortSignal;
}

export interface ApiClientOptions {
  readonly connection: Connection;
  readonly token: string | undefined;
  readonly tenant: string | undefined;
  readonly userAgent: string;
  /** From 0 to 1: spreads the repeats of many clients. */
  readonly random: () => number;
  readonly maxAnswerBytes?: number;
  readonly answerMs?: number;
}

const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
const MAX_PROBLEM_BYTES = 64 * 1024;
const ANSWER_MS = 60_000;
const TRIES = 5;
const FIRST_WAIT_MS = 250;
const MAX_WAIT_MS = 20_000;

/** Requests of the REST API: identity, bounded answers, repeats of what may be repeated. */
export class ApiClient {
  readonly #options: ApiClientOptions;
  #requestsPerMinute: number | undefined;

  constructor(options: ApiClientOptions) {
    this.#options = options;
  }

  /** What the tenant may ask in a minute, as the last answer said. */
  get requestsPerMinute(): number | undefined {
    return this.#requestsPerMinute;
  }

  /** A JSON answer. Throws what the server says, `server.unreachable` or `server.invalid`. */
  async ask<T>(path: string, parse: Parse<T>, ask: Ask): Promise<T> {
    const { body } = await this.#whole(path, ask);
    return parse(parseJson(body), 'it');
  }

  /** An answer that is plain text, or nothing. */
  async text(path: string, ask: Ask): Promise<string> {
    return (await this.#whole(path, ask)).body;
  }

  /** For answers without content. */
  async tell(path: string, ask: Ask): Promise<void> {
    await this.#whole(path, ask);
  }

  /** A body that is read as it comes. The answer may have any status below 300. */
  async open(path: string, ask: Ask): Promise<HttpAnswer> {
    return this.#repeated(ask, () => this.#once(path, ask, ask.signal));
  }

  /** Waits before the `nth` repeat: doubling, spread, never longer than some seconds. */
  async pause(nth: number, signal: AbortSignal, atLeastMs = 0): Promise<void> {
    const wait = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(nth, 10));
    await after(Math.max(atLeastMs, wait * (0.5 + this.#options.random() / 2)), undefined, {
      signal,
    });
  }

  async #whole(path: string, ask: Ask): Promise<{ readonly body: string }> {
    return this.#repeated(ask, async (nth) => {
      const { answerMs = ANSWER_MS, maxAnswerBytes = MAX_ANSWER_BYTES } = this.#options;
      const signal = AbortSignal.any([ask.signal, AbortSignal.timeout(answerMs)]);
      try {
        const answer = await this.#once(path, ask, signal);
        return { body: await readText(answer, maxAnswerBytes, ask.doing) };
      } catch (reason) {
        const isGone =
          nth > 0 && ask.method === 'DELETE' && isBuilderdError(reason, 'api.not_found');
        // The first request did its work, and only its answer was lost.
        if (isGone) return { body: '' };
        throw reason;
      }
    });
  }

  async #once(path: string, ask: Ask, signal: AbortSignal): Promise<HttpAnswer> {
    const { connection, token, tenant, userAgent } = this.#options;
    const { method = 'GET', query = {}, headers = {}, body, doing, inTenant = true } = ask;
    const answer = await connection.send({
      method,
      path: `${path}${queryText(query)}`,
      headers: {
        accept: 'application/json',
        'user-agent': userAgent,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(tenant === undefined || !inTenant ? {} : { 'x-tenant-id': tenant }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      doing,
      signal,
    });
    const rate = answer.header('ratelimit-limit') ?? '';
    if (/^\d{1,7}$/.test(rate)) this.#requestsPerMinute = Number(rate);
    if (answer.status < 300) return answer;
    const mediaType = (answer.header('content-type') ?? '').split(';', 1)[0] ?? '';
    const retryAfter = answer.header('retry-after');
    const text = await readText(answer, MAX_PROBLEM_BYTES, doing);
    throw faultOfAnswer({ status: answer.status, mediaType, body: text, retryAfter }, doing);
  }

  async #repeated<T>(ask: Ask, attempt: (nth: number) => Promise<T>): Promise<T> {
    const { method = 'GET', repeatable = method !== 'POST' && method !== 'PATCH' } = ask;
    for (let nth = 0; ; nth += 1) {
      try {
        return await attempt(nth);
      } catch (reason) {
        const waitMs = passingMs(reason);
        if (!repeatable || nth + 1 >= TRIES || waitMs === undefined) throw reason;
        await this.pause(nth, ask.signal, waitMs);
      }
    }
  }
}

/** How long to wait at least before a repeat may help; undefined when it will not. */
export function passingMs(reason: unknown): number | undefined {
  if (!(reason instanceof RemoteFault)) {
    return isBuilderdError(reason, 'server.unreachable') ? 0 : undefined;
  }
  const { status, remoteCode, retryAfterMs = 0 } = reason;
  // A quota is not mended by asking again; a rate is.
  const isPassing =
    status === 502 || status === 503 || status === 504 || remoteCode === 'api.too_many';
  return isPassing && retryAfterMs <= MAX_WAIT_MS ? retryAfterMs : undefined;
}

async function readText(answer: HttpAnswer, maxBytes: number, doing: string): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer.body) {
    size += chunk.length;
    if (size > maxBytes) {
      throw new BuilderdError(
        'server.invalid',
        `Cannot ${doing}: the server's answer is over ${maxBytes} bytes`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function queryText(query: QueryValues): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    const values = Array.isArray(value) ? value : value === undefined ? [] : [value];
    for (const each of values) params.append(key, String(each));
  }
  const text = params.toString();
  return text === '' ? '' : `?${text}`;
}
