import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isBuilderdError } from '../../core/errors.ts';
import { parseEgressAllow } from '../../egress/allow-list.ts';
import { createDialer, type Dialer, type EgressResponse } from '../../egress/dialer.ts';
import { answerFault, isPassing, wayFault } from './s3-faults.ts';

export interface S3Config {
  /** `https://host[:port]`, without a path. */
  readonly endpoint: URL;
  readonly bucket: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Bucket in the path, as most stores of one's own want it; else in the host. */
  readonly pathStyle: boolean;
}

export interface S3Request {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE';
  /** Key in the bucket; empty for the bucket itself. */
  readonly key: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  /** SHA-256 of the body in hex, when it is known already. */
  readonly bodyHash?: string;
  readonly doing: string;
  readonly signal: AbortSignal;
}

export interface S3Client extends AsyncDisposable {
  /**
   * One signed request, tried again after passing faults: all that we send may be repeated. Gives
   * answers of 200 to 299 and those of `expect`; throws `service.unavailable`, `artifact.missing`,
   * `storage.failed` for others. The body must be read or discarded.
   */
  request(request: S3Request, expect?: readonly number[]): Promise<EgressResponse>;
  /** Like `request`, with the answer's whole text. */
  text(request: S3Request): Promise<string>;
}

const TRIES = 5;
const BACKOFF_MS = 200;
/** Listings of 1000 keys are the longest answers that are read as text. */
const MAX_TEXT_BYTES = 4 << 20;
/** A part of 16 MiB over a slow line. */
const ANSWER_TIMEOUT_MS = 5 * 60_000;
const EMPTY_HASH = createHash('sha256').digest('hex');

/** Talks to the operator's endpoint alone: no other private address can be reached through it. */
export function createS3Client(config: S3Config): S3Client {
  const base = baseUrl(config);
  const port = base.port === '' ? (base.protocol === 'https:' ? '443' : '80') : base.port;
  const dialer = createDialer({
    allow: parseEgressAllow(`${base.hostname}:${port}`),
    limits: { headersTimeoutMs: ANSWER_TIMEOUT_MS },
  });
  const request: S3Client['request'] = async (asked, expect = []) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await requestOnce(dialer, base, config, asked, expect);
      } catch (reason) {
        if (attempt >= TRIES || !isBuilderdError(reason, 'service.unavailable')) throw reason;
      }
      const delay = BACKOFF_MS * 2 ** (attempt - 1) * (0.5 + Math.random());
      await sleep(delay, undefined, { signal: asked.signal });
    }
  };
  return {
    request,
    text: async (asked) => readText(await request(asked), asked.doing),
    [Symbol.asyncDispose]: () => dialer[Symbol.asyncDispose](),
  };
}

async function requestOnce(
  dialer: Dialer,
  base: URL,
  config: S3Config,
  asked: S3Request,
  expect: readonly number[],
): Promise<EgressResponse> {
  const { doing, signal, method, body } = asked;
  const { url, headers } = await sign(base, config, asked);
  try {
    const answer = await dialer.request(url, {
      method,
      headers,
      signal,
      ...(body === undefined ? {} : { body }),
    });
    const { status } = answer;
    if ((status >= 200 && status < 300) || (expect.includes(status) && !isPassing(status))) {
      return answer;
    }
    const text = method === 'HEAD' ? (answer.discard(), '') : await readText(answer, doing);
    throw answerFault(status, text, doing);
  } catch (reason) {
    throw wayFault(reason, doing);
  }
}

async function sign(
  base: URL,
  config: S3Config,
  { method, key, query = {}, headers = {}, body, bodyHash }: S3Request,
): Promise<{ readonly url: URL; readonly headers: Readonly<Record<string, string>> }> {
  const { AwsV4Signer } = await import('aws4fetch');
  const url = new URL(base);
  url.pathname += key;
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  const hash =
    bodyHash ?? (body === undefined ? EMPTY_HASH : createHash('sha256').update(body).digest('hex'));
  const signer = new AwsV4Signer({
    method,
    url: url.href,
    headers: { ...headers, 'x-amz-content-sha256': hash },
    accessKeyId: config.accessKeyId,
    secretAccessKey: config.secretAccessKey,
    region: config.region,
    service: 's3',
    // Range and content type decide which bytes are meant: signed like the rest.
    allHeaders: true,
  });
  const signed = await signer.sign();
  return { url: signed.url, headers: Object.fromEntries(signed.headers) };
}

function baseUrl({ endpoint, bucket, pathStyle }: S3Config): URL {
  const url = new URL('/', endpoint);
  if (pathStyle) url.pathname = `/${bucket}/`;
  else url.hostname = `${bucket}.${endpoint.hostname}`;
  return url;
}

async function readText(answer: EgressResponse, doing: string): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of answer.body) {
      length += chunk.length;
      if (length > MAX_TEXT_BYTES) throw answerFault(answer.status, '', doing);
      chunks.push(chunk);
    }
  } catch (reason) {
    throw wayFault(reason, doing);
  }
  return Buffer.concat(chunks).toString('utf8');
}
