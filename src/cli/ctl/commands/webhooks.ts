import { type Command, Option } from 'commander';
import { EVENT_TYPES } from '../../../core/event-types.ts';
import { newWebhook, webhook as webhookAnswer, webhookList } from '../client/answers.ts';
import { group, type Grammar, oneOrMore, serverCommand, withServer } from '../command-kit.ts';
import { giveSecret, type SecretTarget, withSecretOptions } from '../contexts/secret-output.ts';
import { table } from '../view/table.ts';
import { shortTime } from '../view/times.ts';
import { told } from '../view/told.ts';

interface CreateOptions extends SecretTarget {
  readonly event?: readonly string[];
}

export function webhooksGroup(grammar: Grammar): Command {
  return group('webhooks', 'have events delivered to a URL', [
    listCommand(grammar),
    createCommand(grammar),
    enableCommand(grammar),
    deleteCommand(grammar),
  ]);
}

function listCommand(grammar: Grammar): Command {
  return serverCommand('list', 'list the webhooks and how their last delivery went').action(
    withServer(grammar, async (session) => {
      const { client, signal } = session;
      const found = await client.ask('/v1/webhooks', webhookList, {
        doing: 'list the webhooks',
        signal,
      });
      session.show(found, () => {
        const rows = found.webhooks.map(
          ({ id, url, events, active, disabledReason, lastDelivery }) => [
            id,
            active ? 'active' : `off: ${disabledReason ?? 'by the service'}`,
            url,
            events.join(' '),
            lastDelivery === undefined
              ? undefined
              : `${shortTime(lastDelivery.at)} ${lastDelivery.status ?? lastDelivery.error ?? ''}`,
          ],
        );
        return table(['ID', 'STATE', 'URL', 'EVENTS', 'LAST DELIVERY'], rows);
      });
    }),
  );
}

function createCommand(grammar: Grammar): Command {
  const command = serverCommand('create', 'deliver events to a URL, signed')
    .argument('<url>', 'https:// address of the receiver')
    .addOption(
      new Option('--event <type>', 'which events; may be repeated (default: all)')
        .choices([...EVENT_TYPES])
        .argParser(oneOrMore(EVENT_TYPES)),
    );
  return withSecretOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  builderctl webhooks create https://ci.example.com/hook --event build.failed --secret-file hook.secret
`,
    )
    .action(
      withServer<CreateOptions>(grammar, async (session, options, [url = '']) => {
        const { client, signal } = session;
        await giveSecret(session, options, async () => {
          const { webhook, secret } = await client.ask('/v1/webhooks', newWebhook, {
            method: 'POST',
            doing: 'create the webhook',
            body: { url, events: options.event ?? EVENT_TYPES },
            signal,
          });
          return { secret, document: { webhook }, text: told`Webhook ${webhook.id} is made\n` };
        });
      }),
    );
}

function enableCommand(grammar: Grammar): Command {
  return serverCommand('enable', 'deliver again to a webhook that was turned off')
    .argument('<id>', 'id of the webhook')
    .addHelpText(
      'after',
      '\nWhat happened while it was off is not delivered; `builderctl events` shows it.\n',
    )
    .action(
      withServer(grammar, async (session, _options, [id = '']) => {
        const { client, signal } = session;
        const enabled = await client.ask(
          `/v1/webhooks/${encodeURIComponent(id)}/enable`,
          webhookAnswer,
          // A repeat changes nothing.
          { method: 'POST', repeatable: true, doing: 'enable the webhook', signal },
        );
        session.show(
          enabled,
          () => told`Webhook ${enabled.id} is ${enabled.active ? 'active' : 'off'}\n`,
        );
      }),
    );
}

function deleteCommand(grammar: Grammar): Command {
  return serverCommand('delete', 'stop a delivery')
    .argument('<id>', 'id of the webhook')
    .action(
      withServer(grammar, async (session, _options, [id = '']) => {
        const { client, signal } = session;
        await client.tell(`/v1/webhooks/${encodeURIComponent(id)}`, {
          method: 'DELETE',
          doing: 'delete the webhook',
          signal,
        });
        session.show({ id, deleted: true }, () => told`Webhook ${id} is deleted\n`);
      }),
    );
}
