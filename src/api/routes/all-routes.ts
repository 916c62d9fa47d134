import type { Log } from '../../core/log.ts';
import type { ApiApp, ApiContext, HealthPort } from '../api-options.ts';
import { addArtifactRoutes } from './artifact-routes.ts';
import { addAuditRoutes } from './audit-routes.ts';
import { addBuildRoutes } from './build-routes.ts';
import { addDocsRoutes } from './docs-routes.ts';
import { addEventRoutes } from './event-routes.ts';
import { addHealthRoutes } from './health-routes.ts';
import { addLogRoutes } from './log-routes.ts';
import { addSecretRoutes } from './secret-routes.ts';
import { addTenantRoutes } from './tenant-routes.ts';
import { addUsageRoutes } from './usage-routes.ts';

export function addRoutes(
  app: ApiApp,
  context: ApiContext,
  own: { readonly health: HealthPort; readonly log: Log; readonly nowMs: () => number },
): void {
  addHealthRoutes(app, own);
  addBuildRoutes(app, context);
  addLogRoutes(app, context);
  addArtifactRoutes(app, context);
  addTenantRoutes(app, context);
  addUsageRoutes(app, context);
  addSecretRoutes(app, context);
  addEventRoutes(app, context);
  addAuditRoutes(app, context);
  addDocsRoutes(app);
}
