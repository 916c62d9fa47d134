import { type Command, Option } from 'commander';
import { newToken, tokenList } from '../client/answers.ts';
import { group, type Grammar, parseSeconds, serverCommand, withServer } from '../command-kit.ts';
import { giveSecret, type SecretTarget, withSecretOptions } from '../contexts/secret-output.ts';
import { table } from '../view/table.ts';
import { shortTime } from '../view/times.ts';
import { told } from '../view/told.ts';

interface CreateOptions extends SecretTarget {
  readonly role: string;
  readonly name: string;
  readonly ttl?: string;
}

export function tokenGroup(grammar: Grammar): Command {
  return group('token', 'make, list and revoke tokens', [
    createCommand(grammar),
    listCommand(grammar),
    revokeCommand(grammar),
  ]);
}

function createCommand(grammar: Grammar): Command {
  const command = serverCommand('create', 'make a token for a tenant, or for an operator')
    .addOption(
      new Option('--role <role>', 'what it may do')
        .choices(['reader', 'tenant', 'operator'])
        .default('tenant'),
    )
    .requiredOption('--name <text>', 'what it is for')
    .option('--ttl <duration>', 'how long it works, such as 30d (default: for ever)');
  return withSecretOptions(command)
    .addHelpText(
      'after',
      `
The token is for the tenant of --tenant or of the context; an operator without one makes tokens for operators.

Examples:
  builderctl token create --tenant acme --role reader --name dashboard --ttl 30d --secret-file acme.token
`,
    )
    .action(
      withServer<CreateOptions>(grammar, async (session, options) => {
        const { client, signal } = session;
        const { role, name, ttl } = options;
        const ttlSeconds = ttl === undefined ? undefined : parseSeconds(ttl, '--ttl');
        await giveSecret(session, options, async () => {
          const { token, secret } = await client.ask('/v1/tokens', newToken, {
            method: 'POST',
            doing: 'make the token',
            body: { role, name, ...(ttlSeconds === undefined ? {} : { ttlSeconds }) },
            signal,
          });
          const whose = token.tenant === undefined ? '' : ` of tenant ${token.tenant}`;
          const text = told`Token ${token.id} (${token.role}${whose}) is made\n`;
          return { secret, document: { token }, text };
        });
      }),
    );
}

function listCommand(grammar: Grammar): Command {
  return serverCommand(
    'list',
    "list the tenant's tokens; an operator without a tenant sees all",
  ).action(
    withServer(grammar, async (session) => {
      const { client, signal } = session;
      const found = await client.ask('/v1/tokens', tokenList, { doing: 'list the tokens', signal });
      session.show(found, () => {
        const rows = found.tokens.map((each) => [
          each.id,
          each.prefix,
          each.role,
          each.tenant,
          each.name,
          each.revokedAt === undefined
            ? shortTime(each.expiresAt)
            : `revoked ${shortTime(each.revokedAt)}`,
          shortTime(each.lastUsedAt),
        ]);
        return table(['ID', 'STARTS', 'ROLE', 'TENANT', 'NAME', 'EXPIRES', 'LAST USED'], rows);
      });
    }),
  );
}

function revokeCommand(grammar: Grammar): Command {
  return serverCommand('revoke', 'revoke a token; it stops to work within five seconds')
    .argument('<id>', 'id of the token, not the token itself')
    .action(
      withServer(grammar, async (session, _options, [id = '']) => {
        const { client, signal } = session;
        await client.tell(`/v1/tokens/${encodeURIComponent(id)}`, {
          method: 'DELETE',
          doing: 'revoke the token',
          signal,
        });
        session.show({ id, revoked: true }, () => told`Token ${id} is revoked\n`);
      }),
    );
}
