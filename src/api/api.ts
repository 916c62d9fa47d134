import fastify from 'fastify';
import { systemClock } from '../core/clock.ts';
import { BuilderdError } from '../core/errors.ts';
import { newId } from '../core/ids.ts';
import { NO_TRACING } from '../core/tracing.ts';
import { DEFAULT_API_LIMITS } from './api-limits.ts';
import type { Api, ApiApp, ApiContext, ApiOptions } from './api-options.ts';
import { AddressLimits } from './auth/address-limits.ts';
import { Gate } from './auth/gate.ts';
import { TenantDoor } from './auth/tenant-door.ts';
import { TokenCache } from './auth/token-cache.ts';
import { addOpenApi } from './docs/openapi.ts';
import { answerFault } from './http/fault-answer.ts';
import { isLoopbackHost } from './http/host-policy.ts';
import { addRequestHooks } from './request-hooks.ts';
import { addRoutes } from './routes/all-routes.ts';
import { addSchemas } from './schemas/add-schemas.ts';
import { createFrontServer, type FrontServer } from './server/front-server.ts';
import { answerParserFault } from './server/parser-faults.ts';
import { proxyTest } from './server/trusted-proxies.ts';
import { StreamPlaces } from './streams/stream-places.ts';

/** Between two looks for connections that became idle while the service closes. */
const GO_AWAY_MS = 50;

/**
 * The API, ready to listen. Throws `config.invalid` for settings that do not fit together, such as
 * development mode on an address that others reach.
 */
export async function createApi(options: ApiOptions): Promise<Api> {
  const limits = { ...DEFAULT_API_LIMITS, ...options.limits };
  const nowMs = options.nowMs ?? (() => performance.now());
  const isDevelopment = options.auth.mode === 'development';
  if (isDevelopment && !isLoopbackHost(options.host)) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot serve without authentication on ${options.host}: development mode is for loopback addresses`,
    );
  }
  const proxies = options.trustedProxies ?? [];
  const isProxy = proxyTest(proxies);
  const closing = new AbortController();
  const front: { made?: FrontServer } = {};

  const app: ApiApp = fastify({
    serverFactory: (handler) => {
      front.made = createFrontServer(handler, {
        limits,
        isProxy,
        ...(options.tls === undefined ? {} : { tls: options.tls }),
      });
      return front.made.server;
    },
    bodyLimit: limits.bodyBytes,
    trustProxy: proxies.length === 0 ? false : [...proxies],
    genReqId: () => newId(),
    requestIdHeader: false,
    exposeHeadRoutes: false,
    return503OnClosing: false,
    logger: false,
    routerOptions: { maxParamLength: 200 },
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, useDefaults: false } },
    clientErrorHandler: answerParserFault,
    frameworkErrors: (fault, request, reply) => {
      answerFault(fault, request, reply, options.log);
    },
  });

  const addresses = new AddressLimits(limits, nowMs);
  const gate = new Gate({
    clock: options.clock ?? systemClock,
    log: options.log,
    reverifyMs: limits.reverifyMs,
    addresses,
    door: new TenantDoor({
      tenants: options.tenants,
      cacheMs: limits.tenantCacheMs,
      nowMs,
    }),
    bearer:
      options.auth.mode === 'development'
        ? undefined
        : {
            tenants: options.tenants,
            cache: new TokenCache({ ttlMs: limits.tokenCacheMs, nowMs }),
            ...(options.auth.verifyJwt === undefined ? {} : { verifyJwt: options.auth.verifyJwt }),
          },
  });
  const streams = new StreamPlaces({
    process: limits.followers,
    tenant: limits.followersPerTenant,
  });
  const downloads = new StreamPlaces({
    process: limits.downloads,
    tenant: limits.downloadsPerTenant,
  });
  const context: ApiContext = {
    builds: options.builds,
    tenants: options.tenants,
    events: options.events,
    limits,
    log: options.log,
    follow: (request) => gate.follow(request),
    openStream: ({ id }) => streams.open(id),
    openDownload: ({ id }) => downloads.open(id),
    enterTenant: (request, name) => gate.enterTenant(request, name),
  };

  addRequestHooks(app, {
    gate,
    limits,
    nowMs,
    closing: closing.signal,
    log: options.log,
    observer: options.observer,
    tracing: options.tracing ?? NO_TRACING,
    hygiene: {
      urlBytes: limits.urlBytes,
      headerBytes: limits.headerBytes,
      allowedHosts: new Set(options.allowedHosts ?? (isDevelopment ? [] : ['*'])),
      isDevelopment,
      isTls: options.tls !== undefined,
    },
  });
  await addOpenApi(app, options.version);
  addSchemas(app);
  addRoutes(app, context, { health: options.health, log: options.log, nowMs });
  for (const extend of options.extensions ?? []) {
    await app.register(async (scope: ApiApp) => extend(scope, context));
  }
  await app.ready();
  return serve(app, front, closing, options, isDevelopment);
}

function serve(
  app: ApiApp,
  front: { readonly made?: FrontServer },
  closing: AbortController,
  { host, port, tls, log }: ApiOptions,
  isDevelopment: boolean,
): Api {
  const { made } = front;
  if (made === undefined) throw new BuilderdError('internal', 'Cannot serve: there is no server');
  const close = async ({ graceMs }: { readonly graceMs: number }): Promise<void> => {
    closing.abort(new BuilderdError('service.unavailable', 'Cannot go on: the service is closing'));
    const cut = setTimeout(() => made.destroy(), graceMs);
    // A kept-alive connection is idle only when its last answer is out.
    const ask = setInterval(() => made.goAway(), GO_AWAY_MS);
    made.goAway();
    try {
      await app.close();
    } finally {
      clearInterval(ask);
      clearTimeout(cut);
      made.destroy();
    }
  };
  return {
    async listen() {
      // One socket, not one for each family: 8082 is one door.
      await app.listen({ host: host === 'localhost' ? '127.0.0.1' : host, port });
      const address = app.server.address();
      if (address === null || typeof address === 'string') {
        throw new BuilderdError('internal', 'Cannot tell the address that the API listens on');
      }
      if (isDevelopment) {
        log.warn(
          { address: address.address },
          'Development mode: no authentication, everyone is an operator',
        );
      }
      const shown = address.family === 'IPv6' ? `[${address.address}]` : address.address;
      const url = `${tls === undefined ? 'http' : 'https'}://${shown}:${address.port}`;
      return { host: address.address, port: address.port, url };
    },
    reloadTls: (next) => made.reloadTls(next),
    close,
    [Symbol.asyncDispose]: () => close({ graceMs: 0 }),
  };
}
