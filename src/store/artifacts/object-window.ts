import { isBuilderdError } from '../../core/errors.ts';
import type { EgressResponse } from '../../egress/dialer.ts';
import type { S3Client } from './s3-client.ts';
import { answerFault, wayFault } from './s3-faults.ts';
import { corrupt } from './store-faults.ts';

export const DOING = 'read the artifact';
/** Broken transfers in a row that brought no byte. */
const MAX_FRUITLESS = 3;

/** Bytes `start` to `end`, both inclusive, of an object of `storedBytes`. */
export interface ObjectRange {
  readonly start: number;
  readonly end: number;
  readonly storedBytes: number;
  readonly signal: AbortSignal;
}

/**
 * One range of an object that comes in whole from when it is made, whether or not it is read. A
 * transfer that breaks off is taken up where it stopped.
 */
export class ObjectWindow {
  readonly #chunks: Buffer[] = [];
  #outcome: { readonly fault?: unknown } | undefined;
  #changed = Promise.withResolvers<void>();
  /** When it holds no connection any more; never rejects. */
  readonly filled: Promise<void>;

  constructor(client: S3Client, key: string, range: ObjectRange) {
    this.filled = this.#fill(client, key, range).then(
      () => this.#end({}),
      (fault: unknown) => this.#end({ fault }),
    );
  }

  /** The next bytes, never empty, or undefined at the end. One call at a time. */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) return chunk;
      if (this.#outcome !== undefined) {
        if ('fault' in this.#outcome) throw this.#outcome.fault;
        return undefined;
      }
      await this.#changed.promise;
    }
  }

  async #fill(client: S3Client, key: string, range: ObjectRange): Promise<void> {
    const { end } = range;
    let at = range.start;
    let fruitless = 0;
    while (at <= end) {
      // Tries again by itself: what it gives up on is given up.
      const body = await openRange(client, key, { ...range, start: at });
      try {
        for await (const chunk of body) {
          if (chunk.length === 0) continue;
          if (at + chunk.length > end + 1) {
            throw corrupt('the object store sent more than was asked for');
          }
          at += chunk.length;
          fruitless = 0;
          this.#chunks.push(chunk);
          this.#wake();
        }
        if (at <= end) throw answerFault(500, '', DOING);
      } catch (reason) {
        const fault = wayFault(reason, DOING);
        fruitless += 1;
        const isPassing = isBuilderdError(fault, 'service.unavailable');
        if (!isPassing || fruitless >= MAX_FRUITLESS) throw fault;
      }
    }
  }

  #end(outcome: { readonly fault?: unknown }): void {
    this.#outcome = outcome;
    this.#wake();
  }

  #wake(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }
}

async function openRange(
  client: S3Client,
  key: string,
  range: ObjectRange,
): Promise<AsyncIterable<Buffer>> {
  const { start, end, storedBytes, signal } = range;
  const headers = { range: `bytes=${start}-${end}` };
  const answer = await client.request({ method: 'GET', key, headers, doing: DOING, signal }, [416]);
  if (!isRange(answer, start, end, storedBytes)) {
    answer.discard();
    throw corrupt(`the object store answered ${answer.status} to a range of it`);
  }
  return answer.body;
}

/** Some stores answer a range that is the whole with 200. */
function isRange(answer: EgressResponse, start: number, end: number, total: number): boolean {
  if (answer.status === 200) return start === 0 && end === total - 1;
  return (
    answer.status === 206 && answer.header('content-range') === `bytes ${start}-${end}/${total}`
  );
}
