import { examineHost } from '../doctor/examine-host.ts';
import type { Config } from '../config.ts';

/** The doctor's checks of this host: what works, what is weaker, what is missing. */
export async function hostStatus(
  config: Config,
  { signal }: { readonly signal: AbortSignal },
): Promise<Readonly<Record<string, unknown>>> {
  const checks = await examineHost(config, config.settings.CONTAINERD_ADDRESS, signal);
  return { checks };
}
