import type { Command } from 'commander';
import { BuilderdError, isBuilderdError } from '../../../core/errors.ts';
import { safeJson } from '../client/bounded-json.ts';
import { json } from '../client/fields.ts';
import { type Grammar, serverCommand, withServer } from '../command-kit.ts';
import type { Session } from '../session.ts';

export function healthCommand(grammar: Grammar): Command {
  return serverCommand('health', 'does the service serve, and can it take builds?')
    .option('--details', 'what it knows about itself (for operators)')
    .addHelpText(
      'after',
      `
Exit code 0: it takes builds. 3: it does not, or cannot be reached.
`,
    )
    .action(
      withServer<{ readonly details?: true }>(grammar, async (session, { details }) => {
        const { client, signal, target } = session;
        const serving = await says(session, '/health');
        const ready = await says(session, '/health/ready');
        const status =
          details === true
            ? await client.ask('/debug/status', json, {
                doing: 'get the status',
                inTenant: false,
                signal,
              })
            : undefined;
        if (!ready) grammar.outcome.exitCode = 3;
        const { shown: server } = target.server;
        const document = { server, serving, ready, ...(status === undefined ? {} : { status }) };
        session.show(document, () => {
          const words = `${serving ? 'serves' : 'starts or drains'} and ${ready ? 'takes builds' : 'takes no builds now'}`;
          return `${server} ${words}\n${status === undefined ? '' : `${safeJson(status, 2)}\n`}`;
        });
      }),
    );
}

/** 503 is an answer here, not a fault; a server that is not there, or is no builderd, is one. */
export async function says(
  { client, signal }: Pick<Session, 'client' | 'signal'>,
  path: '/health' | '/health/ready',
): Promise<boolean> {
  let word: string;
  try {
    word = await client.text(path, {
      doing: 'ask for the health',
      inTenant: false,
      repeatable: false,
      headers: { accept: 'text/plain' },
      signal,
    });
  } catch (reason) {
    if (isBuilderdError(reason) && reason.details['status'] === 503) return false;
    throw reason;
  }
  if (word === 'ok\n' || word === 'ready\n') return true;
  throw new BuilderdError(
    'server.invalid',
    'Cannot ask for the health: what answers there is no builderd',
  );
}
