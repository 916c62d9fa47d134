import { createContextKey, createContextValues } from '@connectrpc/connect';
import { fastifyConnectPlugin } from '@connectrpc/connect-fastify';
import type { FastifyRequest } from 'fastify';
import { BuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import type { ApiApp, ApiContext, RouteExtension } from '../api-options.ts';
import type { RouteAccess } from '../auth/access.ts';
import { builderHandlers } from './builder-handlers.ts';
import { BuilderService } from './generated/builder_pb.js';
import { answerRpcFault } from './rpc-fault.ts';

const READ: RouteAccess = { access: 'read', tenant: 'deferred' };
const WRITE: RouteAccess = { access: 'write', tenant: 'deferred' };
const WRITES = new Set(['CreateBuild', 'CancelBuild', 'DeleteBuild']);

/** The later name of the same service. */
const SECOND_NAME = 'deploy.builderd.v1.BuilderService';

const requestKey = createContextKey<FastifyRequest | undefined>(undefined);

/** The RPC service, as an extension of the API. Compressed messages are refused: no bombs. */
export function rpcExtension(log: Log): RouteExtension {
  return async (app, context) => {
    app.removeAllContentTypeParsers();
    app.setErrorHandler((reason, request, reply) => answerRpcFault(reason, request, reply, log));
    app.addHook('onRoute', (route) => {
      const method = route.url.split('/').at(-1) ?? '';
      route.config = { ...route.config, guard: WRITES.has(method) ? WRITE : READ };
    });
    for (const typeName of [BuilderService.typeName, SECOND_NAME]) {
      await app.register((scope: ApiApp) => registerService(scope, context, typeName, log));
    }
  };
}

async function registerService(
  app: ApiApp,
  context: ApiContext,
  typeName: string,
  log: Log,
): Promise<void> {
  await app.register(fastifyConnectPlugin, {
    readMaxBytes: context.limits.bodyBytes,
    writeMaxBytes: MAX_ANSWER_BYTES,
    acceptCompression: [],
    jsonOptions: { ignoreUnknownFields: false },
    contextValues: (request) => createContextValues().set(requestKey, request),
    routes: (router) =>
      router.service(
        { ...BuilderService, typeName },
        builderHandlers(context, {
          log,
          requestOf: ({ values }) => {
            const request = values.get(requestKey);
            if (request !== undefined) return request;
            throw new BuilderdError('internal', 'Cannot find the request of an RPC');
          },
        }),
      ),
  });
}

/** A page of 500 builds with their configurations. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
