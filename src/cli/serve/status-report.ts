import { messageOf } from '../../core/errors.ts';
import { examineHost } from '../doctor/examine-host.ts';
import type { Config } from '../config.ts';
import { effectiveSettings } from '../validate-config.ts';
import { builderdVersion } from '../version.ts';
import { askRole } from './role-socket.ts';
import type { RoleContext } from './running-role.ts';

/** What every role can tell about itself, without secrets. */
export async function commonStatus(
  context: RoleContext,
  config: Config,
): Promise<Readonly<Record<string, unknown>>> {
  const { startedAt, errors, role } = context;
  return {
    role,
    version: builderdVersion(),
    node: process.version,
    pid: process.pid,
    startedAt: new Date(startedAt).toISOString(),
    uptimeSeconds: Math.round((Date.now() - startedAt) / 1000),
    memoryBytes: process.memoryUsage.rss(),
    identity: { uid: process.getuid?.(), gid: process.getgid?.() },
    settings: Object.fromEntries(
      effectiveSettings(config, { values: {} })
        .filter(({ source }) => source !== 'default')
        .map(({ name, value }) => [name, value]),
    ),
    lastErrors: errors.list(),
  };
}

/** The doctor's checks of this host: what works, what is weaker, what is missing. */
export async function hostStatus(
  config: Config,
  { signal }: { readonly signal: AbortSignal },
): Promise<Readonly<Record<string, unknown>>> {
  const checks = await examineHost(config, config.settings.CONTAINERD_ADDRESS, signal);
  return { checks };
}

/** The other role of this host, or why it does not tell. */
export async function statusOfOther(
  socket: string,
  call: { readonly signal: AbortSignal },
): Promise<unknown> {
  try {
    const { body } = await askRole(socket, '/status', call);
    return JSON.parse(body);
  } catch (reason) {
    return { unavailable: messageOf(reason) };
  }
}
