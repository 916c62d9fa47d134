/**
 * Who may use a route. `public`: anyone; `read`: every known caller; `write`: all but readers;
 * `operator`: operators.
 */
export type Access = 'public' | 'read' | 'write' | 'operator';

/**
 * Which tenant a request acts for. `required`: the one of X-Tenant-ID or of the credential;
 * `optional`: operators may name none; `deferred`: the handler calls `enterTenant` itself, with the
 * name in its message (who may act for one only, or names it in X-Tenant-ID, has paid before the
 * body is read; others pay by address); `none`: the route is about no tenant.
 */
export type TenantNeed = 'required' | 'optional' | 'deferred' | 'none';

export interface RouteAccess {
  readonly access: Access;
  readonly tenant: TenantNeed;
  /** Answered also when the service has no requests to spare: health. */
  readonly unmetered?: boolean;
}

export const PUBLIC: RouteAccess = { access: 'public', tenant: 'none' };
export const HEALTH: RouteAccess = { access: 'public', tenant: 'none', unmetered: true };
export const TENANT_READ: RouteAccess = { access: 'read', tenant: 'required' };
export const TENANT_WRITE: RouteAccess = { access: 'write', tenant: 'required' };
export const OPERATOR: RouteAccess = { access: 'operator', tenant: 'none' };
export const OPERATOR_IN_TENANT: RouteAccess = { access: 'operator', tenant: 'required' };

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may use the route. A route without it stops the start. */
    guard?: RouteAccess;
  }
}
