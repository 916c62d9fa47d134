import { type Command, Option } from 'commander';
import { BuilderdError } from '../../../core/errors.ts';
import { credential, credentialList } from '../client/answers.ts';
import { group, type Grammar, serverCommand, withServer } from '../command-kit.ts';
import { readSecretFile, readSecretOption } from '../contexts/secret-input.ts';
import type { CtlHost } from '../ctl-host.ts';
import { table } from '../view/table.ts';
import { shortTime } from '../view/times.ts';
import { told } from '../view/told.ts';

interface SetOptions {
  readonly kind: string;
  readonly username?: string;
  readonly passwordFile?: string;
  readonly passwordStdin?: true;
  readonly loginTokenFile?: string;
  readonly sshKeyFile?: string;
}

export function credentialsGroup(grammar: Grammar): Command {
  return group('credentials', 'logins of the tenant for registries and Git hosts', [
    setCommand(grammar),
    listCommand(grammar),
    deleteCommand(grammar),
  ]);
}

function setCommand(grammar: Grammar): Command {
  return serverCommand('set', 'store the login for a host, in place of the one there was')
    .argument('<host>', 'exact host, with its port if it has one')
    .addOption(
      new Option('--kind <kind>', 'what answers there')
        .choices(['registry', 'git'])
        .default('registry'),
    )
    .option('--username <name>', 'user name')
    .option('--password-file <file>', 'password, read from a file')
    .option('--password-stdin', 'password, read from standard input')
    .option('--login-token-file <file>', 'a token in place of user and password')
    .option('--ssh-key-file <file>', 'private key, for Git')
    .addHelpText(
      'after',
      `
Secrets are never taken from arguments, where others on this machine could read them.

Examples:
  pass show ghcr | builderctl credentials set ghcr.io --username ci --password-stdin
`,
    )
    .action(
      withServer<SetOptions>(grammar, async (session, options, [host = '']) => {
        const { client, signal } = session;
        const stored = await client.ask('/v1/credentials', credential, {
          method: 'PUT',
          doing: 'store the credential',
          body: { kind: options.kind, host, ...(await readSecrets(options, session.host)) },
          signal,
        });
        session.show(stored, () => told`The login for ${stored.host} is stored (${stored.id})\n`);
      }),
    );
}

async function readSecrets(options: SetOptions, host: CtlHost): Promise<object> {
  const {
    username,
    passwordFile: file,
    passwordStdin: stdin,
    loginTokenFile,
    sshKeyFile,
  } = options;
  const password = await readSecretOption('password', { file, stdin }, host);
  const token = loginTokenFile === undefined ? undefined : await readSecretFile(loginTokenFile);
  const sshKey = sshKeyFile === undefined ? undefined : await readSecretFile(sshKeyFile);
  if (password === undefined && token === undefined && sshKey === undefined) {
    throw new BuilderdError(
      'usage.invalid',
      'Cannot store a login without a secret: want --password-stdin, --password-file, --login-token-file or --ssh-key-file',
    );
  }
  return {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(token === undefined ? {} : { token }),
    // A key without its last line break is not read by every program.
    ...(sshKey === undefined ? {} : { sshKey: `${sshKey}\n` }),
  };
}

function listCommand(grammar: Grammar): Command {
  return serverCommand('list', 'list the hosts that logins are stored for').action(
    withServer(grammar, async (session) => {
      const { client, signal } = session;
      const ask = { doing: 'list the credentials', signal };
      const found = await client.ask('/v1/credentials', credentialList, ask);
      session.show(found, () => {
        const rows = found.credentials.map((each) => [
          each.id,
          each.kind,
          each.host,
          shortTime(each.updatedAt),
        ]);
        return table(['ID', 'KIND', 'HOST', 'UPDATED'], rows);
      });
    }),
  );
}

function deleteCommand(grammar: Grammar): Command {
  return serverCommand('delete', 'forget a login')
    .argument('<id>', 'its id')
    .action(
      withServer(grammar, async (session, _options, [id = '']) => {
        const { client, signal } = session;
        await client.tell(`/v1/credentials/${encodeURIComponent(id)}`, {
          method: 'DELETE',
          doing: 'delete the credential',
          signal,
        });
        session.show({ id, deleted: true }, () => told`Login ${id} is forgotten\n`);
      }),
    );
}
