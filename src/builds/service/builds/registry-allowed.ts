/**
 * Whether a canonical registry (`docker.io`, `host:5000`) is on a list of `*`, `*.domain`, `host`
 * and `host:port`. A pattern without a port means the usual one; `*.domain` is not the domain.
 */
export function registryAllowed(registry: string, allowed: readonly string[]): boolean {
  const own = splitPort(registry);
  return allowed.some((entry) => {
    if (entry === '*') return true;
    const pattern = splitPort(entry.toLowerCase());
    if (pattern.port !== own.port) return false;
    return pattern.host.startsWith('*.')
      ? own.host.endsWith(pattern.host.slice(1)) && own.host.length > pattern.host.length - 1
      : own.host === pattern.host;
  });
}

function splitPort(name: string): { readonly host: string; readonly port: string } {
  const match = /^(.*?)(?::(\d+))?$/.exec(name);
  // An IPv6 address is in brackets, so a colon and digits at the end are a port.
  return { host: match?.[1] ?? name, port: match?.[2] ?? '443' };
}
