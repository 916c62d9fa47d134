import { oneLine } from '../print-fault.ts';
import { builderdVersion } from '../version.ts';
import { ApiClient } from './client/api-client.ts';
import { safeJson } from './client/bounded-json.ts';
import { type Connection, openConnection } from './client/connection.ts';
import { chooseTarget, type Target, type TargetOptions } from './contexts/choose-target.ts';
import type { CtlHost } from './ctl-host.ts';

/** One command that talks to one server. */
export interface Session extends AsyncDisposable {
  readonly client: ApiClient;
  readonly target: Target;
  readonly host: CtlHost;
  readonly signal: AbortSignal;
  /** One document: the JSON for programs, or the text for people. */
  show(document: unknown, text: () => string): void;
  readonly isJson: boolean;
}

export interface SessionOptions extends TargetOptions {
  readonly json?: true;
}

export async function openSession(options: SessionOptions, host: CtlHost): Promise<Session> {
  return sessionOf(await chooseTarget(options, host), options, host);
}

export function sessionOf(
  target: Target,
  options: { readonly json?: true },
  host: CtlHost,
): Session {
  const connection: Connection = openConnection(target.server, target);
  const client = new ApiClient({
    connection,
    token: target.token,
    tenant: target.tenant,
    userAgent: `builderctl/${builderdVersion()}`,
    random: host.random,
  });
  const isJson = options.json === true;
  return {
    client,
    target,
    host,
    signal: host.signal,
    isJson,
    show: (document, text) => {
      // The text quotes the server: whatever it says, no line of it moves the cursor.
      host.stdout.write(
        isJson ? `${safeJson(document)}\n` : text().split('\n').map(oneLine).join('\n'),
      );
    },
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
}
