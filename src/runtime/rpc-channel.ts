import { setTimeout as sleep } from 'node:timers/promises';
import {
  Client,
  credentials,
  Metadata,
  type ClientDuplexStream,
  type ClientOptions,
} from '@grpc/grpc-js';
import { throwIfAborted } from '../core/scope.ts';
import { grpcFault, isUnreachable } from './grpc-fault.ts';

/** What every call carries: where it acts, what holds its results, and how it ends. */
export interface RpcCall {
  /** containerd namespace. Absent only for version, introspection, namespaces and events. */
  readonly namespace?: string;
  /** Lease that keeps what the call creates. */
  readonly lease?: string;
  readonly signal: AbortSignal;
  /** Deadline of a unary call; default 30 s. Streams have an idle limit instead. */
  readonly timeoutMs?: number;
  /** Says at once that the daemon is not there, also for an idempotent call. */
  readonly retry?: 'never';
}

/** A call in a namespace: all services but the daemon-wide ones. */
export interface NamespacedCall extends RpcCall {
  readonly namespace: string;
}

/** The part of a generated MethodDefinition that a client needs. */
export interface RpcMethod<Request, Response> {
  readonly path: string;
  readonly requestSerialize: (value: Request) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Response;
}

export interface UnaryTraits {
  /** Finishes "Cannot …" in an error. */
  readonly doing: string;
  /** A repeat changes nothing: the call is made again while the daemon restarts. */
  readonly idempotent?: boolean;
}

export interface StreamTraits {
  readonly doing: string;
  /** The longest silence before the stream counts as dead; absent for event streams. */
  readonly idleMs?: number;
}

const DEFAULT_TIMEOUT_MS = 30_000;
/** Waits out a restart of the daemon (0.9 s measured with systemd), 1.55 s in all. */
const RETRY_DELAYS_MS = [50, 100, 200, 400, 800];
/** The limit of containerd's server and of its Go client. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** One HTTP/2 connection to containerd, made when first used and made again when it broke. */
export class RpcChannel implements Disposable {
  readonly address: string;
  readonly #client: Client;

  constructor(address: string, options: { flowControlWindowBytes?: number } = {}) {
    this.address = address;
    const clientOptions: ClientOptions = {
      'grpc.default_authority': 'localhost',
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 1000,
      // Otherwise channels to one address share one connection, and with it its flow control.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.service_config_disable_resolution': 1,
      'grpc.enable_retries': 0,
      'grpc.enable_http_proxy': 0,
    };
    if (options.flowControlWindowBytes !== undefined) {
      clientOptions['grpc-node.flow_control_window'] = options.flowControlWindowBytes;
    }
    this.#client = new Client(`unix:${address}`, credentials.createInsecure(), clientOptions);
  }

  async unary<Request, Response>(
    method: RpcMethod<Request, Response>,
    request: Request,
    call: RpcCall,
    traits: UnaryTraits,
  ): Promise<Response> {
    for (let attempt = 0; ; attempt++) {
      throwIfAborted(call.signal, traits.doing);
      try {
        return await this.#unaryOnce(method, request, call);
      } catch (reason) {
        const timeoutMs = call.timeoutMs ?? DEFAULT_TIMEOUT_MS;
        const context = { ...traits, address: this.address, signal: call.signal, timeoutMs };
        const fault = await grpcFault(reason, context);
        const delayMs = RETRY_DELAYS_MS[attempt];
        const again = traits.idempotent === true && call.retry !== 'never' && isUnreachable(fault);
        if (!again || delayMs === undefined) throw fault;
        await sleep(delayMs);
      }
    }
  }

  #unaryOnce<Request, Response>(
    method: RpcMethod<Request, Response>,
    request: Request,
    call: RpcCall,
  ): Promise<Response> {
    return new Promise<Response>((done, fail) => {
      const rpc = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        metadataOf(call),
        { deadline: Date.now() + (call.timeoutMs ?? DEFAULT_TIMEOUT_MS) },
        (fault, value) => {
          call.signal.removeEventListener('abort', onAbort);
          if (fault !== null) fail(fault);
          else if (value === undefined) fail(new Error(`${method.path} gave no reply`));
          else done(value);
        },
      );
      const onAbort = (): void => rpc.cancel();
      call.signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Leaving the loop early cancels the stream. */
  async *serverStream<Request, Response>(
    method: RpcMethod<Request, Response>,
    request: Request,
    call: RpcCall,
    traits: StreamTraits,
  ): AsyncGenerator<Response, void, void> {
    throwIfAborted(call.signal, traits.doing);
    const rpc = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadataOf(call),
    );
    // The status of a stream that we left may come when nobody iterates any more.
    rpc.on('error', () => undefined);
    const idle = new IdleTimer(traits.idleMs, () =>
      rpc.destroy(new Error(`no data for ${traits.idleMs} ms`)),
    );
    const onAbort = (): void => rpc.cancel();
    call.signal.addEventListener('abort', onAbort, { once: true });
    try {
      for await (const message of rpc) {
        idle.stop();
        // The generated encoder decides what comes out; grpc-js types its streams as `any`.
        yield message as Response;
        idle.restart();
      }
    } catch (reason) {
      throw await grpcFault(reason, { ...traits, address: this.address, signal: call.signal });
    } finally {
      idle.stop();
      call.signal.removeEventListener('abort', onAbort);
      rpc.cancel();
    }
  }

  /** The raw stream: whoever opens it listens to `error` and ends it. The signal is not wired. */
  duplex<Request, Response>(
    method: RpcMethod<Request, Response>,
    call: RpcCall,
  ): ClientDuplexStream<Request, Response> {
    return this.#client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      metadataOf(call),
    );
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

class IdleTimer {
  readonly #limitMs: number | undefined;
  readonly #onIdle: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(limitMs: number | undefined, onIdle: () => void) {
    this.#limitMs = limitMs;
    this.#onIdle = onIdle;
    this.restart();
  }

  restart(): void {
    this.stop();
    if (this.#limitMs !== undefined) this.#timer = setTimeout(this.#onIdle, this.#limitMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

function metadataOf({ namespace, lease }: RpcCall): Metadata {
  const metadata = new Metadata();
  if (namespace !== undefined) metadata.set('containerd-namespace', namespace);
  if (lease !== undefined) metadata.set('containerd-lease', lease);
  return metadata;
}
