import type { FastifyInstance, RawServerDefault } from 'fastify';
import type {
  FastifyBaseLogger,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
} from 'fastify';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { BuildService } from '../builds/service/build-service.ts';
import type { TenantRef } from '../builds/service/caller.ts';
import type { EventService } from '../builds/service/event-service.ts';
import type { TenantService } from '../builds/service/tenant-service.ts';
import type { TenantName } from '../core/ids.ts';
import type { Clock } from '../core/clock.ts';
import type { Log } from '../core/log.ts';
import type { Tracing } from '../core/tracing.ts';
import type { ApiLimits } from './api-limits.ts';
import type { VerifyJwt } from './auth/bearer.ts';
import type { TlsSettings } from './server/tls-settings.ts';
import type { FastifyRequest } from 'fastify';

/** The Fastify instance of the API, with schemas that type their handlers. */
export type ApiApp = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** What the service says about itself. */
export interface HealthPort {
  /** `/health`: does this process serve? */
  phase(): 'starting' | 'serving' | 'draining';
  /** `/health/ready`: the sentences that say what is missing; none when builds can be taken. */
  problems(call: { readonly signal: AbortSignal }): Promise<readonly string[]>;
  /** `/debug/status`, for operators: any JSON without secrets. */
  status?(call: { readonly signal: AbortSignal }): Promise<unknown>;
}

/** Told of every finished request; route is the pattern, so that labels stay few. */
export interface ApiObserver {
  requestDone(facts: {
    readonly method: string;
    readonly route: string;
    readonly status: number;
    readonly durationMs: number;
  }): void;
}

export type AuthOptions =
  | {
      readonly mode: 'tokens';
      /** From `createJwtVerifier`, when issuers are configured. */
      readonly verifyJwt?: VerifyJwt;
    }
  /**
   * Everyone is an operator, and acts for `default` without X-Tenant-ID. Only on loopback
   * addresses; refused elsewhere at the start.
   */
  | { readonly mode: 'development' };

export interface ApiOptions {
  readonly host: string;
  /** 0 for a free one. */
  readonly port: number;
  readonly builds: BuildService;
  readonly tenants: TenantService;
  readonly events: EventService;
  readonly auth: AuthOptions;
  readonly health: HealthPort;
  readonly log: Log;
  /** Of the product, for the OpenAPI document. */
  readonly version: string;
  readonly tls?: TlsSettings;
  readonly limits?: Partial<ApiLimits>;
  /** Host names beside loopback names and plain addresses; `*` for any. Default: any with tokens, none in development. */
  readonly allowedHosts?: readonly string[];
  /** Addresses or CIDRs of load balancers whose X-Forwarded-For is believed. */
  readonly trustedProxies?: readonly string[];
  readonly observer?: ApiObserver;
  /** Default: nothing is traced. */
  readonly tracing?: Tracing;
  /** More routes behind the same gate: RPC. */
  readonly extensions?: readonly RouteExtension[];
  /** Monotonic milliseconds; for tests. */
  readonly nowMs?: () => number;
  readonly clock?: Clock;
}

/** What a route extension may use beside the instance. */
export interface ApiContext {
  readonly builds: BuildService;
  readonly tenants: TenantService;
  readonly events: EventService;
  readonly limits: ApiLimits;
  readonly log: Log;
  /**
   * The signal of a stream that goes on until its caller leaves, or may no longer have it: then it
   * is aborted with `api.unauthenticated` or `api.forbidden`. Throws `api.forbidden` for a tenant
   * that is suspended. After its tenant was entered.
   */
  readonly follow: (request: FastifyRequest) => AbortSignal;
  /** Counts the streams of the process: throws `api.too_many` beyond the limit. */
  readonly openStream: (tenant: TenantRef) => Disposable;
  /** The same for downloads, which are fewer: each holds a file or some megabytes of an object. */
  readonly openDownload: (tenant: TenantRef) => Disposable;
  /**
   * For routes with `tenant: 'deferred'`: the tenant that the message names, held against
   * X-Tenant-ID and the caller, and one request out of its bucket. Throws like the gate.
   */
  readonly enterTenant: (
    request: FastifyRequest,
    name: TenantName | undefined,
  ) => Promise<TenantRef>;
}

/**
 * Adds routes to an encapsulated instance; hooks, error handler and content types of its own stay
 * inside. Each route needs `config.guard` (an `onRoute` hook may set it).
 */
export type RouteExtension = (app: ApiApp, context: ApiContext) => Promise<void>;

export interface Api extends AsyncDisposable {
  /** Starts to listen. */
  listen(): Promise<{ readonly host: string; readonly port: number; readonly url: string }>;
  reloadTls(tls: TlsSettings): void;
  /** Ends streams, lets running requests finish for `graceMs`, then cuts what is left. */
  close(options: { readonly graceMs: number }): Promise<void>;
}
