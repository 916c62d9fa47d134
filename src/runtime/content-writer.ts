import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { Digest } from '../core/digest.ts';
import { BuilderdError } from '../core/errors.ts';
import { throwIfAborted } from '../core/scope.ts';
import { grpcFault } from './grpc-fault.ts';
import type { WriteContentRequest } from './generated/containerd/services/content/v1/WriteContentRequest.ts';
import type { WriteContentResponse__Output } from './generated/containerd/services/content/v1/WriteContentResponse.ts';
import type { NamespacedCall, RpcChannel, RpcMethod } from './rpc-channel.ts';
import { parseWireSize } from './wire-values.ts';

export interface WriteTarget {
  readonly ref: string;
  readonly digest: Digest;
  readonly size: number;
}

/** What the daemon holds of an ingest. */
export interface WriteState {
  readonly offset: number;
  readonly digest: string;
}

/** A writer, and how far the ingest is. */
export interface OpenIngest {
  readonly writer: ContentWriter;
  readonly state: WriteState;
}

/** Messages sent and not answered: enough to keep the socket busy, and bounded. */
const MAX_UNANSWERED = 4;
/** Opening rehashes what an earlier attempt left, committing flushes it: slow for gigabytes. */
const REPLY_LIMIT_MS = 120_000;
const CLOSE_LIMIT_MS = 5_000;

/**
 * One Content.Write stream. It holds containerd's lock on `ref` until it is disposed; what was
 * written and not committed stays in the daemon under `ref`.
 */
export class ContentWriter implements AsyncDisposable {
  readonly #stream: ClientDuplexStream<WriteContentRequest, WriteContentResponse__Output>;
  readonly #target: WriteTarget;
  readonly #call: NamespacedCall;
  readonly #address: string;
  readonly #doing: string;
  #unanswered = 0;
  #reply: WriteContentResponse__Output | undefined;
  #committed = false;
  #ended = false;
  #fault: unknown;
  /** Each looks again whenever anything happens to the stream. */
  readonly #watchers = new Set<() => void>();

  private constructor(
    stream: ClientDuplexStream<WriteContentRequest, WriteContentResponse__Output>,
    target: WriteTarget,
    call: NamespacedCall,
    address: string,
  ) {
    this.#stream = stream;
    this.#target = target;
    this.#call = call;
    this.#address = address;
    this.#doing = `write blob ${target.digest}`;
    stream.on('data', (reply: WriteContentResponse__Output) => this.#onReply(reply));
    stream.on('error', (reason) => this.#onEnd(reason));
    stream.on('end', () => this.#onEnd(undefined));
  }

  /**
   * Opens the ingest or goes on with the one that is there. After a cancel it may still return: the
   * writer then throws at its first use.
   */
  static async open(
    rpc: RpcChannel,
    method: RpcMethod<WriteContentRequest, WriteContentResponse__Output>,
    target: WriteTarget,
    call: NamespacedCall,
  ): Promise<OpenIngest> {
    throwIfAborted(call.signal, `write blob ${target.digest}`);
    const writer = new ContentWriter(rpc.duplex(method, call), target, call, rpc.address);
    try {
      return { writer, state: await writer.state() };
    } catch (reason) {
      await writer[Symbol.asyncDispose]();
      // Cancelled, but the ingest was made meanwhile: whoever opened it must know, to remove it.
      if (call.signal.aborted && writer.#reply !== undefined) {
        return { writer, state: writer.#stateOf(writer.#reply) };
      }
      throw reason;
    }
  }

  /** Waits for everything sent so far; the digest is that of the bytes up to the offset. */
  async state(): Promise<WriteState> {
    const { ref, digest, size } = this.#target;
    await this.#send({ action: 'STAT', ref, total: size, expected: digest });
    return this.#stateOf(await this.#lastReply());
  }

  /** Takes the buffer over: the caller does not change it any more. */
  async write(offset: number, data: Buffer): Promise<void> {
    await this.#send({ action: 'WRITE', ref: this.#target.ref, offset, data });
    await this.#until(() => this.#unanswered < MAX_UNANSWERED);
  }

  /** After it the blob is there under its digest, which the daemon has checked, and leased. */
  async commit(labels: Readonly<Record<string, string>>): Promise<void> {
    const { ref, size, digest } = this.#target;
    await this.#send({
      action: 'COMMIT',
      ref,
      total: size,
      expected: digest,
      offset: size,
      labels: { ...labels },
    });
    // The daemon answers a commit twice and ends the stream: only its status says how it went.
    await this.#until(() => this.#ended);
    if (this.#committed) return;
    throw new BuilderdError(
      'runtime.failed',
      `Cannot ${this.#doing}: containerd ended the stream without a reply to the commit`,
    );
  }

  /**
   * Ends our side and waits until the daemon has let go of the lock, so that an abort or another
   * writer comes after us for sure. A cancel would give no such sign.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#stream.end();
    await this.#changed(CLOSE_LIMIT_MS, () => this.#ended);
    if (!this.#ended) this.#stream.cancel();
  }

  #stateOf({ offset, digest }: WriteContentResponse__Output): WriteState {
    return { offset: parseWireSize(offset, `offset of ${this.#target.ref}`), digest };
  }

  async #send(message: WriteContentRequest): Promise<void> {
    await this.#until(() => true);
    this.#unanswered += 1;
    let flushed = false;
    this.#stream.write(message, () => {
      flushed = true;
      this.#wake();
    });
    await this.#until(() => flushed);
  }

  async #lastReply(): Promise<WriteContentResponse__Output> {
    await this.#until(() => this.#unanswered === 0);
    if (this.#reply !== undefined) return this.#reply;
    throw new BuilderdError('runtime.failed', `Cannot ${this.#doing}: containerd did not reply`);
  }

  /** Throws when the stream broke, the signal was aborted or the daemon stays silent. */
  async #until(reached: () => boolean): Promise<void> {
    const { signal } = this.#call;
    const context = { doing: this.#doing, address: this.#address, signal };
    const onAbort = (): void => this.#wake();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await this.#changed(
        REPLY_LIMIT_MS,
        () => reached() || this.#ended || this.#fault !== undefined || signal.aborted,
      );
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    throwIfAborted(signal, this.#doing);
    if (this.#fault !== undefined) throw await grpcFault(this.#fault, context);
    if (reached()) return;
    throw new BuilderdError(
      'runtime.failed',
      this.#ended
        ? `Cannot ${this.#doing}: containerd ended the stream too early`
        : `Cannot ${this.#doing}: containerd did not reply within ${REPLY_LIMIT_MS} ms`,
    );
  }

  /** Resolves when `reached`, looked at on every event of the stream, or after the limit. */
  async #changed(limitMs: number, reached: () => boolean): Promise<void> {
    if (reached()) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, limitMs);
    const watcher = (): void => {
      if (reached()) resolve();
    };
    this.#watchers.add(watcher);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#watchers.delete(watcher);
    }
  }

  #wake(): void {
    for (const watcher of this.#watchers) watcher();
  }

  #onReply(reply: WriteContentResponse__Output): void {
    this.#unanswered = Math.max(0, this.#unanswered - 1);
    this.#reply = reply;
    if (reply.action === 'COMMIT') this.#committed = true;
    this.#wake();
  }

  #onEnd(fault: unknown): void {
    this.#ended = true;
    this.#fault ??= fault;
    this.#wake();
  }
}
