import { BuilderdError } from '../../../core/errors.ts';
import { parseTenantName } from '../../../core/ids.ts';
import type { ProxyChoice, TlsFiles } from '../client/connection.ts';
import { parseServerUrl, type ServerUrl } from '../client/server-url.ts';
import type { CtlHost } from '../ctl-host.ts';
import { chooseProxy } from './choose-proxy.ts';
import { type Context, readContexts } from './contexts-file.ts';
import { parseToken, readSecretFile, readTextFile } from './secret-input.ts';

/** Options of every command that talks to a server. */
export interface TargetOptions {
  readonly server?: string;
  readonly context?: string;
  readonly tenant?: string;
  readonly tokenFile?: string;
  readonly caFile?: string;
}

export interface Target {
  readonly server: ServerUrl;
  readonly token: string | undefined;
  readonly tenant: string | undefined;
  readonly tls: TlsFiles;
  readonly proxy: ProxyChoice | undefined;
}

/**
 * Which server, as whom: options before environment before context. The token of a context goes to
 * the server of that context and to no other.
 */
export async function chooseTarget(options: TargetOptions, host: CtlHost): Promise<Target> {
  const { env } = host;
  const context = await chooseContext(options, host);
  const address = options.server ?? env['BUILDERCTL_SERVER'] ?? context?.server;
  if (address === undefined) {
    throw new BuilderdError(
      'usage.invalid',
      'Cannot tell the server: run builderctl login URL --token-file FILE, or set BUILDERCTL_SERVER',
    );
  }
  const server = parseServerUrl(address);
  const own =
    context !== undefined && parseServerUrl(context.server).shown === server.shown
      ? context
      : undefined;
  const tenant = options.tenant ?? env['BUILDERCTL_TENANT'] ?? own?.tenant;
  return {
    server,
    token:
      (await givenToken(options, host)) ??
      (own?.token === undefined ? undefined : parseToken(own.token)),
    tenant: tenant === undefined || tenant === '' ? undefined : parseTenantName(tenant),
    tls: await readTls({
      ca: options.caFile ?? env['BUILDERCTL_CA_FILE'] ?? own?.caFile,
      cert: env['BUILDERCTL_CERT_FILE'] ?? own?.certFile,
      key: env['BUILDERCTL_KEY_FILE'] ?? own?.keyFile,
    }),
    proxy: chooseProxy(server, host),
  };
}

async function chooseContext(options: TargetOptions, host: CtlHost): Promise<Context | undefined> {
  const named = options.context ?? host.env['BUILDERCTL_CONTEXT'];
  const isComplete =
    (options.server ?? host.env['BUILDERCTL_SERVER']) !== undefined &&
    (options.tokenFile ?? host.env['BUILDERCTL_TOKEN'] ?? host.env['BUILDERCTL_TOKEN_FILE']) !==
      undefined;
  // A broken file of contexts must not stop who needs none, such as a CI job.
  if (named === undefined && isComplete) return undefined;
  const { current, contexts } = await readContexts(host);
  const name = named ?? current;
  if (name === undefined) return undefined;
  const context = contexts.get(name);
  if (context === undefined && named !== undefined) {
    throw new BuilderdError(
      'usage.invalid',
      `Cannot use context ${JSON.stringify(name.slice(0, 80))}: builderctl context list shows those there are`,
    );
  }
  return context;
}

async function givenToken(options: TargetOptions, { env }: CtlHost): Promise<string | undefined> {
  if (options.tokenFile !== undefined) return parseToken(await readSecretFile(options.tokenFile));
  const direct = env['BUILDERCTL_TOKEN'];
  if (direct !== undefined && direct !== '') return parseToken(direct);
  const file = env['BUILDERCTL_TOKEN_FILE'];
  return file === undefined || file === '' ? undefined : parseToken(await readSecretFile(file));
}

export async function readTls(paths: {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}): Promise<TlsFiles> {
  const { ca, cert, key } = paths;
  return {
    ...(ca === undefined ? {} : { ca: await readTextFile(ca) }),
    ...(cert === undefined ? {} : { cert: await readTextFile(cert) }),
    ...(key === undefined ? {} : { key: await readTextFile(key) }),
  };
}
