import { openServiceBase, showRole, watchDatabase } from './compose-service.ts';
import type { RoleContext, RunningRole } from './serve/running-role.ts';

/** The executor role: root, containerd, workers. */
export async function startExecutor(context: RoleContext): Promise<RunningRole> {
  const { config, metrics } = context;
  await using open = new AsyncDisposableStack();
  const base = open.use(await openServiceBase(context));
  watchDatabase(metrics, base.database, { maxTenants: config.settings.METRICS_MAX_TENANTS });
  const status: RunningRole['status'] = async () => ({ role: 'executor', pid: process.pid });
  open.use(
    await showRole(context, {
      role: 'executor',
      withServer: context.alone,
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
