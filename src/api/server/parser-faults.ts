import type { Socket } from 'node:net';
import { errnoOf } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import { problemOf, StatusFault } from '../http/problem.ts';

const LINGER_MS = 500;

/** Answers bytes that are no request, or that came too slowly, and closes. */
export function answerParserFault(reason: Error, socket: Socket): void {
  const code = errnoOf(reason);
  if (code === 'ECONNRESET' || !socket.writable || hasStartedAnswer(socket)) {
    socket.destroy();
    return;
  }
  const problem = problemOf(faultOf(code), newId());
  const body = JSON.stringify(problem);
  // Whatever still comes is read and dropped for a moment: closing with unread bytes would reset
  // the connection, and the client would lose the answer.
  socket.removeAllListeners('data');
  socket.on('data', () => undefined);
  socket.setTimeout(0);
  const cut = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(cut));
  socket.end(
    `HTTP/1.1 ${problem.status} ${problem.title}\r\n` +
      'Content-Type: application/problem+json\r\n' +
      `Content-Length: ${Buffer.byteLength(body)}\r\n` +
      `Connection: close\r\n\r\n${body}`,
  );
}

function faultOf(code: string | undefined): StatusFault {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return new StatusFault(
      431,
      'api.too_large',
      'Cannot read the request: its headers are too large',
    );
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return new StatusFault(
      408,
      'api.invalid',
      'Cannot read the request: it did not arrive in time',
    );
  }
  return new StatusFault(400, 'api.invalid', 'Cannot read the request: it is not valid HTTP');
}

/** Bytes of ours in the middle of an answer would be taken for a part of it. */
function hasStartedAnswer(socket: Socket): boolean {
  const answer = answerOn(socket);
  return answer !== undefined && Reflect.get(answer, 'headersSent') === true;
}

/** The HTTP/1.1 answer that is being given on a connection; Node keeps it under this name only. */
export function answerOn(socket: Socket): object | undefined {
  const answer: unknown = Reflect.get(socket, '_httpMessage');
  return typeof answer === 'object' && answer !== null ? answer : undefined;
}
