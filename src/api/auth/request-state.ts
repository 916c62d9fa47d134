import { Duplex } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Caller, TenantRef } from '../../builds/service/caller.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Span } from '../../core/tracing.ts';

export interface RequestStateOptions {
  readonly reply: FastifyReply;
  /** Aborted when the service closes. */
  readonly closing: AbortSignal;
  readonly callMs: number;
  readonly nowMs: () => number;
  /** Called once, when the answer is out or its client has left. */
  readonly onClose: (state: RequestState) => void;
}

/** What the gate found out about a request, and the signals that end its work. */
export class RequestState {
  readonly startedAt: number;
  readonly reply: FastifyReply;
  readonly #options: RequestStateOptions;
  readonly #calls = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #stream: AbortController | undefined;
  #isClosed = false;
  caller: Caller | undefined;
  tenant: TenantRef | undefined;
  /** Whether the tenant was suspended when it was entered. */
  isSuspended = false;
  span: Span | undefined;

  constructor(options: RequestStateOptions) {
    this.#options = options;
    this.startedAt = options.nowMs();
    this.reply = options.reply;
    options.reply.raw.once('close', () => this.#close());
  }

  /**
   * Whether the whole answer is out. A stream of HTTP/2 that was reset ends like a whole request,
   * takes what is answered to that, and calls itself finished.
   */
  get isAnswered(): boolean {
    const { raw } = this.reply;
    const stream: unknown = Reflect.get(raw, 'stream');
    const isReset = stream instanceof Duplex && Number(Reflect.get(stream, 'rstCode') ?? 0) !== 0;
    return raw.writableEnded && raw.writableFinished && !isReset;
  }

  /** For service calls: ends with the client, and when the calls of one request took too long. */
  call(): { readonly signal: AbortSignal } {
    this.#timer ??= setTimeout(
      () => this.#calls.abort(tookTooLong()),
      this.#options.callMs,
    ).unref();
    return { signal: this.#calls.signal };
  }

  /** For streams: ends with the client, or when the service closes. */
  streamSignal(): AbortSignal {
    if (this.#stream !== undefined) return this.#stream.signal;
    const stream = new AbortController();
    this.#stream = stream;
    if (this.#isClosed) {
      // What ends streams has been and will not come again.
      stream.abort(clientGone());
      return stream.signal;
    }
    const { closing } = this.#options;
    const onClosing = (): void => stream.abort(closing.reason);
    if (closing.aborted) onClosing();
    else closing.addEventListener('abort', onClosing, { once: true });
    stream.signal.addEventListener('abort', () => closing.removeEventListener('abort', onClosing));
    return stream.signal;
  }

  /** Ends the stream: its caller may no longer have it. */
  endStream(reason: BuilderdError): void {
    this.#stream?.abort(reason);
  }

  #close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    if (!this.isAnswered) this.#calls.abort(clientGone());
    // Also after a whole answer: whoever still follows works for nobody.
    this.#stream?.abort(clientGone());
    this.#options.onClose(this);
  }
}

function tookTooLong(): BuilderdError {
  return new BuilderdError('service.unavailable', 'Cannot answer the request: it took too long');
}

function clientGone(): BuilderdError {
  return new BuilderdError('build.cancelled', 'Cannot go on with the request: its client left');
}

declare module 'fastify' {
  interface FastifyRequest {
    state: RequestState;
  }
}

/** The caller of a request that passed the gate. */
export function callerOf(request: FastifyRequest): Caller {
  const { caller } = request.state;
  if (caller === undefined) {
    throw new BuilderdError('internal', 'Cannot tell the caller: the route is public');
  }
  return caller;
}

/** The tenant of a request whose route requires one. */
export function tenantOf(request: FastifyRequest): TenantRef {
  const { tenant } = request.state;
  if (tenant === undefined) {
    throw new BuilderdError('internal', 'Cannot tell the tenant: the route requires none');
  }
  return tenant;
}
