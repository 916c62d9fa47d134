import type { UniversalServerResponse } from '@connectrpc/connect/protocol';
import { plainGrpcMessage } from './grpc-message.ts';
import { ERROR_CODE } from './rpc-fault.ts';

/** First byte of the envelope that ends a stream: of Connect's and of gRPC-Web's. */
const END_FLAGS = 0x02 | 0x80;
/** As the protocols write it: in headers and trailers, and in the two kinds of last envelope. */
const INTERNAL = /"code":\s*"internal"|^grpc-status:\s*13\s*$/m;
const MAX_WORDS = 2000;

/**
 * The same answer; `onFault` is told what it says of a fault of ours that no handler has thrown,
 * because it came while the answer was put into bytes. The protocol's library keeps such a fault to
 * itself and the client, so that it is read from what is sent. gRPC's message is made plain, once
 * the body has ended and the trailers stand.
 */
export function watchAnswer(
  answer: UniversalServerResponse,
  onFault: (words: string) => void,
): UniversalServerResponse {
  const { body, header, trailer, status } = answer;
  if (body === undefined) return answer;
  const watched = async function* (): AsyncGenerator<Uint8Array> {
    let last: Uint8Array | undefined;
    for await (const chunk of body) {
      last = chunk;
      yield chunk;
    }
    plainGrpcMessage(trailer);
    const isBare = status >= 400;
    const isEnd = ((last?.[0] ?? 0) & END_FLAGS) !== 0;
    const said = [
      textOf(header),
      textOf(trailer),
      isBare || isEnd ? Buffer.from(last?.subarray(isBare ? 0 : 5) ?? []).toString('utf8') : '',
    ].join('\n');
    // With a code of ours it was a fault of a handler, and is in the log already.
    if (INTERNAL.test(said) && !said.includes(ERROR_CODE)) onFault(said.slice(0, MAX_WORDS).trim());
  };
  return { ...answer, body: watched() };
}

function textOf(headers: Headers | undefined): string {
  return [...(headers ?? [])].map(([name, value]) => `${name}: ${value}`).join('\n');
}
