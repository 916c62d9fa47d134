import { BuilderdError } from '../../core/errors.ts';
import type { EgressResponse } from '../../egress/dialer.ts';

/** All bytes of a small answer; stops one byte above the limit. Throws `source.too_large`. */
export async function readBounded(
  response: EgressResponse,
  maxBytes: number,
  doing: string,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let total = 0;
  const declared = Number(response.header('content-length') ?? 0);
  if (declared > maxBytes) {
    response.discard();
    throw tooLarge(doing, maxBytes);
  }
  for await (const chunk of response.body) {
    total += chunk.length;
    if (total > maxBytes) throw tooLarge(doing, maxBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, total);
}

function tooLarge(doing: string, maxBytes: number): BuilderdError {
  return new BuilderdError(
    'source.too_large',
    `Cannot ${doing}: the answer is larger than ${maxBytes} bytes`,
  );
}
