import { loadAddon } from '../../native/addon.ts';
import { openServiceBase, showRole, watchDatabase } from './compose-service.ts';
import { dropPrivileges } from './serve/drop-privileges.ts';
import type { RoleContext, RunningRole } from './serve/running-role.ts';

/** The api role: everything that only root may open is opened before the user is changed. */
export async function startApi(context: RoleContext): Promise<RunningRole> {
  const { config, metrics } = context;
  await using open = new AsyncDisposableStack();
  const addon = loadAddon();
  const base = open.use(await openServiceBase(context));
  if (context.identity !== undefined) dropPrivileges(context.identity);
  addon?.setNoNewPrivs();
  watchDatabase(metrics, base.database, { maxTenants: config.settings.METRICS_MAX_TENANTS });
  const status: RunningRole['status'] = async () => ({ role: 'api', pid: process.pid });
  open.use(
    await showRole(context, {
      role: 'api',
      withServer: true,
      status: (signal) => status({ signal }),
    }),
  );
  const { promise: failed } = Promise.withResolvers<never>();
  const owned = open.move();
  return {
    status,
    reload: async () => [],
    stop: () => owned.disposeAsync(),
    failed,
  };
}
