import { type Command, Option } from 'commander';
import { newToken, type Token, tokenPage } from '../client/answers.ts';
import {
  group,
  type Grammar,
  parseSeconds,
  serverCommand,
  wholeNumber,
  withServer,
} from '../command-kit.ts';
import type { Session } from '../session.ts';
import { giveSecret, type SecretTarget, withSecretOptions } from '../contexts/secret-output.ts';
import { table } from '../view/table.ts';
import { shortTime } from '../view/times.ts';
import { told } from '../view/told.ts';

interface CreateOptions extends SecretTarget {
  readonly role: string;
  readonly name: string;
  readonly ttl?: string;
}

/** A page of the server, and what a terminal or a script may be given at once. */
const PAGE = 500;
const MAX_TOKENS = 10_000;

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
    .option(
      '--ttl <duration>',
      'how long it works, such as 30d (default, and at most: as long as what makes it)',
    );
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

interface ListOptions {
  readonly limit?: number;
}

function listCommand(grammar: Grammar): Command {
  return serverCommand('list', "list the tenant's tokens; an operator without a tenant sees all")
    .option(
      '--limit <n>',
      `at most as many (default: all, up to ${MAX_TOKENS})`,
      wholeNumber(1, MAX_TOKENS),
    )
    .addHelpText(
      'after',
      '\nThose that work come first, newest first. With more than are listed, JSON has "truncated": true.\n',
    )
    .action(
      withServer<ListOptions>(grammar, async (session, { limit = MAX_TOKENS }) => {
        const found = await listTokens(session, limit);
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
          const titles = ['ID', 'STARTS', 'ROLE', 'TENANT', 'NAME', 'EXPIRES', 'LAST USED'];
          const more = found.truncated ? `There are more than these ${rows.length}\n` : '';
          return `${table(titles, rows)}${more}`;
        });
      }),
    );
}

/** All pages; what a server says about further ones is not followed for ever. */
async function listTokens(
  { client, signal }: Session,
  limit: number,
): Promise<{ readonly tokens: readonly Token[]; readonly truncated: boolean }> {
  const tokens: Token[] = [];
  let cursor: string | undefined;
  do {
    const page = await client.ask('/v1/tokens', tokenPage, {
      query: { limit: Math.min(limit - tokens.length, PAGE), cursor },
      doing: 'list the tokens',
      signal,
    });
    tokens.push(...page.tokens);
    cursor = page.tokens.length === 0 ? undefined : page.nextCursor;
  } while (cursor !== undefined && tokens.length < limit);
  return { tokens, truncated: cursor !== undefined };
}

interface RevokeOptions {
  readonly cascade?: boolean;
}

function revokeCommand(grammar: Grammar): Command {
  return serverCommand('revoke', 'revoke a token; it stops to work within five seconds')
    .argument('<id>', 'id of the token, not the token itself')
    .option('--cascade', "with all that it made, tenants' tokens of an operator's token, too")
    .option('--no-cascade', 'this token alone, for a change of tokens')
    .addHelpText(
      'after',
      `
Without either, the tokens that it made go along, and theirs; of an operator's token only operators' tokens.
`,
    )
    .action(
      withServer<RevokeOptions>(grammar, async (session, { cascade }, [id = '']) => {
        const { client, signal } = session;
        await client.tell(`/v1/tokens/${encodeURIComponent(id)}`, {
          method: 'DELETE',
          query: { cascade },
          doing: 'revoke the token',
          signal,
        });
        session.show({ id, revoked: true }, () => told`Token ${id} is revoked\n`);
      }),
    );
}
