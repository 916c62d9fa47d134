import { isBuilderdError } from '../../core/errors.ts';
import type { EgressResponse } from '../../egress/dialer.ts';
import type { PieceSource } from './piece-stream.ts';
import type { S3Client } from './s3-client.ts';
import { answerFault, wayFault } from './s3-faults.ts';
import { corrupt } from './store-faults.ts';
import type { StoredCopy } from './stored-copy.ts';

const DOING = 'read the artifact';
/** Broken transfers in a row that brought no byte. */
const MAX_FRUITLESS = 3;

/** A stored object of known size; a transfer that breaks off is taken up where it stopped. */
export function objectCopy(
  client: S3Client,
  key: string,
  storedBytes: number,
  signal: AbortSignal,
): StoredCopy {
  let current: AsyncIterator<Buffer> | undefined;
  const close = async (): Promise<void> => {
    const open = current;
    current = undefined;
    await open?.return?.();
  };
  return {
    storedBytes,
    close,
    read({ start, end }): PieceSource {
      let at = start;
      let fruitless = 0;
      return {
        close,
        async next() {
          while (at <= end) {
            // Tries again by itself: what it gives up on is given up.
            current ??= await openRange(client, key, { start: at, end, storedBytes, signal });
            try {
              const { done, value } = await current.next();
              if (done !== true && at + value.length > end + 1) {
                throw corrupt('the object store sent more than was asked for');
              }
              if (done !== true && value.length > 0) {
                at += value.length;
                fruitless = 0;
                return value;
              }
              if (done === true) throw answerFault(500, '', DOING);
            } catch (reason) {
              const fault = wayFault(reason, DOING);
              current = undefined;
              fruitless += 1;
              const isPassing = isBuilderdError(fault, 'service.unavailable');
              if (!isPassing || fruitless >= MAX_FRUITLESS) throw fault;
            }
          }
          await close();
          return undefined;
        },
      };
    },
  };
}

async function openRange(
  client: S3Client,
  key: string,
  range: {
    readonly start: number;
    readonly end: number;
    readonly storedBytes: number;
    readonly signal: AbortSignal;
  },
): Promise<AsyncIterator<Buffer>> {
  const { start, end, storedBytes, signal } = range;
  const headers = { range: `bytes=${start}-${end}` };
  const answer = await client.request({ method: 'GET', key, headers, doing: DOING, signal }, [416]);
  if (!isRange(answer, start, end, storedBytes)) {
    answer.discard();
    throw corrupt(`the object store answered ${answer.status} to a range of it`);
  }
  return answer.body[Symbol.asyncIterator]();
}

/** Some stores answer a range that is the whole with 200. */
function isRange(answer: EgressResponse, start: number, end: number, total: number): boolean {
  if (answer.status === 200) return start === 0 && end === total - 1;
  return (
    answer.status === 206 && answer.header('content-range') === `bytes ${start}-${end}/${total}`
  );
}
