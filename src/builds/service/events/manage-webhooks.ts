import { BuilderdError } from '../../../core/errors.ts';
import { EVENT_TYPES, type EventType, parseEventType } from '../../../core/event-types.ts';
import { isUuid, newId } from '../../../core/ids.ts';
import { writeAudit } from '../../../store/audit/write-audit.ts';
import { findTenantById } from '../../../store/tenants/find-tenant.ts';
import {
  countWebhooks,
  deleteWebhook,
  enableWebhook,
  insertWebhook,
  listWebhooks,
} from '../../../store/webhooks/webhook-rows.ts';
import type { EventService } from '../event-service.ts';
import { requireTenant, requireWriter } from '../tenants/access.ts';
import { holdActiveTenant } from '../tenants/active-tenant.ts';
import type { EventServiceOptions } from './event-deps.ts';
import { newWebhookSecret } from './webhook-signature.ts';
import { parseWebhookUrl } from './webhook-url.ts';
import { webhookPlace } from './webhook-place.ts';

type Part = Pick<
  EventService,
  'createWebhook' | 'listWebhooks' | 'enableWebhook' | 'deleteWebhook'
>;

const MAX_WEBHOOKS = 20;

export function manageWebhooks(options: EventServiceOptions): Part {
  const { database, secrets } = options;
  return {
    async createWebhook(caller, tenant, input, { signal }) {
      requireWriter(caller, 'create a webhook');
      requireTenant(caller, tenant, 'create a webhook');
      const url = parseWebhookUrl(input.url, options);
      const events = parseEvents(input.events);
      const id = newId();
      const secret = newWebhookSecret();
      const webhook = await database.transaction(
        async (tx) => {
          // Its lock makes the count hold, and parts this from the events of the tenant.
          await holdActiveTenant(tx, caller, tenant, 'create a webhook');
          if ((await countWebhooks(tx, tenant.id)) >= MAX_WEBHOOKS) {
            throw new BuilderdError(
              'api.conflict',
              `Cannot create another webhook: a tenant has at most ${MAX_WEBHOOKS}`,
            );
          }
          const sealed = secrets.seal(webhookPlace(tenant.id, id), secret);
          const made = await insertWebhook(tx, {
            id,
            tenantId: tenant.id,
            url: url.href,
            events,
            sealed,
          });
          await writeAudit(tx, caller, {
            tenantId: tenant.id,
            action: 'webhook.create',
            target: id,
            // Path and query may hold a secret of the receiver.
            newValue: { origin: url.origin, events },
          });
          return made;
        },
        { signal },
      );
      return { webhook, secret };
    },

    listWebhooks: (tenant) => listWebhooks(database, tenant.id),

    async enableWebhook(caller, tenant, id, { signal }) {
      requireWriter(caller, 'enable a webhook');
      requireTenant(caller, tenant, 'enable a webhook');
      return database.transaction(
        async (tx) => {
          await holdActiveTenant(tx, caller, tenant, 'enable a webhook');
          const done = isUuid(id) ? await enableWebhook(tx, tenant.id, id) : undefined;
          if (done === undefined) throw noSuchWebhook();
          const { before, after } = done;
          if (!before.active) {
            const { disabledReason } = before;
            await writeAudit(tx, caller, {
              tenantId: tenant.id,
              action: 'webhook.enable',
              target: id,
              oldValue: {
                active: false,
                ...(disabledReason === undefined ? {} : { disabledReason }),
              },
              newValue: { active: true },
            });
          }
          return after;
        },
        { signal },
      );
    },

    async deleteWebhook(caller, tenant, id, { signal }) {
      requireWriter(caller, 'delete a webhook');
      requireTenant(caller, tenant, 'delete a webhook');
      await database.transaction(
        async (tx) => {
          await findTenantById(tx, tenant.id, { lock: true });
          const gone = isUuid(id) ? await deleteWebhook(tx, tenant.id, id) : undefined;
          if (gone === undefined) throw noSuchWebhook();
          await writeAudit(tx, caller, {
            tenantId: tenant.id,
            action: 'webhook.delete',
            target: id,
            oldValue: { origin: new URL(gone.url).origin, events: gone.events },
          });
        },
        { signal },
      );
    },
  };
}

function noSuchWebhook(): BuilderdError {
  return new BuilderdError('api.not_found', 'Cannot find the webhook: there is none with this id');
}

function parseEvents(raw: readonly unknown[]): readonly EventType[] {
  const events = [...new Set(raw.map(parseEventType))];
  const known = events.filter((type) => type !== undefined);
  if (known.length > 0 && known.length === events.length) return known;
  throw new BuilderdError(
    'api.invalid',
    `Cannot use the events of a webhook: want some of ${EVENT_TYPES.join(', ')}`,
  );
}
