import { Command, Option } from 'commander';
import { BuilderdError, isBuilderdError } from '../../../core/errors.ts';
import { parseTenantName } from '../../../core/ids.ts';
import { resolve } from 'node:path';
import { quotas } from '../client/answers.ts';
import { parseServerUrl } from '../client/server-url.ts';
import { chooseProxy } from '../contexts/choose-proxy.ts';
import { readTls } from '../contexts/choose-target.ts';
import {
  type Context,
  parseContextName,
  readContexts,
  writeContexts,
} from '../contexts/contexts-file.ts';
import { parseToken, readSecretOption } from '../contexts/secret-input.ts';
import type { CtlHost } from '../ctl-host.ts';
import type { Grammar } from '../command-kit.ts';
import type { Session } from '../session.ts';
import { says } from './health.ts';

interface LoginOptions {
  readonly tokenFile?: string;
  readonly tokenStdin?: true;
  readonly name: string;
  readonly tenant?: string;
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly json?: true;
}

export function loginCommand({ host }: Grammar): Command {
  return new Command('login')
    .description('remember a server and a token under a name, and use it from now on')
    .argument('<url>', 'address of the service')
    .addOption(
      new Option('--token-file <file>', 'read the token from this file').conflicts('tokenStdin'),
    )
    .option('--token-stdin', 'read the token from standard input')
    .option('--name <context>', 'name of the context', 'default')
    .option('--tenant <name>', 'act for this tenant')
    .option('--ca-file <file>', 'trust this authority (PEM) in place of the system')
    .option('--cert-file <file>', 'certificate of this client (PEM)')
    .option('--key-file <file>', 'its key (PEM)')
    .option('--json', 'print JSON, errors too')
    .addHelpText(
      'after',
      `
The server is asked whether it takes the token before anything is stored. Contexts are kept, readable
by you alone, in $XDG_CONFIG_HOME/builderd/contexts.json. A token is never taken from an argument.

Examples:
  builderctl login https://builderd.example.com --token-file token --tenant acme
  vault read -field=token secret/ci | builderctl login https://b.example.com --token-stdin --name ci
`,
    )
    .action(async (url: string, options: LoginOptions) => runLogin(url, options, host));
}

async function runLogin(url: string, options: LoginOptions, host: CtlHost): Promise<void> {
  const server = parseServerUrl(url);
  const name = parseContextName(options.name);
  const tenant = options.tenant === undefined ? undefined : parseTenantName(options.tenant);
  const secret = await readSecretOption(
    'token',
    { file: options.tokenFile, stdin: options.tokenStdin },
    host,
  );
  if (secret === undefined) {
    throw new BuilderdError(
      'usage.invalid',
      'Cannot log in without a token: want --token-file FILE or --token-stdin',
    );
  }
  const token = parseToken(secret);
  const paths = { ca: options.caFile, cert: options.certFile, key: options.keyFile };
  const { sessionOf } = await import('../session.ts');
  const target = {
    server,
    token,
    tenant,
    tls: await readTls(paths),
    proxy: chooseProxy(server, host),
  };
  await using session = sessionOf(target, options, host);
  await says(session, '/health');
  await checkToken(session);
  const context: Context = {
    server: server.shown,
    token,
    tenant,
    // Relative to where the user stood, and used from elsewhere.
    caFile: paths.ca === undefined ? undefined : resolve(paths.ca),
    certFile: paths.cert === undefined ? undefined : resolve(paths.cert),
    keyFile: paths.key === undefined ? undefined : resolve(paths.key),
  };
  const { contexts } = await readContexts(host);
  const file = await writeContexts(host, {
    current: name,
    contexts: new Map([...contexts, [name, context]]),
  });
  if (server.isPlain) {
    host.stderr.write('note: over http:// the token and all else can be read on the way\n');
  }
  session.show(
    { context: name, server: server.shown, tenant, file },
    () =>
      `Logged in to ${server.shown} as context ${name}${tenant === undefined ? '' : `, for tenant ${tenant}`}\n`,
  );
}

/** An operator need not name a tenant; everyone else has one, and is told when it is not theirs. */
async function checkToken({ client, signal }: Session): Promise<void> {
  try {
    await client.ask('/v1/quotas', quotas, { doing: 'log in', signal });
  } catch (reason) {
    if (!isBuilderdError(reason, 'api.invalid')) throw reason;
  }
}
