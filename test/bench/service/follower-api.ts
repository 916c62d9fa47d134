import { createApi } from '../../../src/api/api.ts';
import { createBuildService } from '../../../src/builds/service/builds/create-build-service.ts';
import { BuilderdError } from '../../../src/core/errors.ts';
import type { TenantRef } from '../../../src/builds/service/caller.ts';
import type { DatabaseConfig } from '../../../src/store/database.ts';
import { HEALTHY } from '../../fixtures/api.ts';
import { OPERATOR } from '../../fixtures/callers.ts';
import { silentLog } from '../../fixtures/databases.ts';
import { testServices } from '../../fixtures/services.ts';
import { answerCalls } from './answer-calls.ts';
import { inTime, openBenchDatabase } from './bench-database.ts';

const FOLLOWERS = 1000;

/** The api of a service that lets so many follow one build; its own process, so that it can be weighed. */
answerCalls({
  async listen({
    config,
    tenant,
  }: {
    readonly config: DatabaseConfig;
    readonly tenant: TenantRef;
  }) {
    const database = await openBenchDatabase(config);
    const services = testServices(database);
    const builds = createBuildService({
      database,
      secrets: services.secrets,
      artifacts: {
        open: () => Promise.reject(new BuilderdError('artifact.missing', 'Cannot open: no store')),
      },
      limits: { buildTimeoutMs: 1000, memoryBytes: 1, diskBytes: 1, allowedRegistries: [] },
      followers: { perBuild: FOLLOWERS, perTenant: FOLLOWERS, perProcess: FOLLOWERS },
      log: silentLog,
    });
    const api = await createApi({
      host: '127.0.0.1',
      port: 0,
      builds,
      tenants: services.tenants,
      events: services.events,
      auth: { mode: 'tokens' },
      health: HEALTHY,
      log: silentLog,
      version: 'bench',
      limits: { followersPerTenant: FOLLOWERS },
    });
    const { port } = await api.listen();
    const { secret: token } = await services.tenants.createToken(
      OPERATOR,
      { role: 'reader', name: 'bench', tenant },
      { signal: inTime() },
    );
    return { port, token };
  },
});
