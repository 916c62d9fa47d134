import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import {
  newWebhookSecret,
  signWebhook,
} from '../../src/builds/service/events/webhook-signature.ts';
import { EVENT_TYPES } from '../../src/core/event-types.ts';

const PAGE = new URL('../../docs/webhooks.md', import.meta.url);

test('the check that docs/webhooks.md shows takes our signatures and no others', async () => {
  const page = await readFile(PAGE, 'utf8');
  const code = /```js\n(.*?)```/s.exec(page)?.[1] ?? '';
  const shown: { isFromBuilderd: (...args: unknown[]) => unknown } = await import(
    `data:text/javascript,${encodeURIComponent(code)}`
  );
  const secret = newWebhookSecret();
  const body = '{"data":{"text":"ä"}}';
  const now = new Date('2026-11-23T12:00:00Z');
  const seconds = now.getTime() / 1000;
  const header = signWebhook(secret, now, body);
  const check = (...args: unknown[]) => shown.isFromBuilderd(...args);
  assert.equal(check(secret, header, body, seconds + 10), true);
  assert.equal(check(secret, header, Buffer.from(body), seconds), true);
  assert.equal(check(secret, header, `${body} `, seconds), false);
  assert.equal(check(newWebhookSecret(), header, body, seconds), false);
  assert.equal(check(secret, header, body, seconds + 301), false);
  assert.equal(check(secret, header.replace('t=1', 't=2'), body, seconds + 1e9), false);
  assert.equal(check(secret, '', body, seconds), false);
});

test('docs/webhooks.md names every event', async () => {
  const page = await readFile(PAGE, 'utf8');
  for (const type of EVENT_TYPES) assert.ok(page.includes(`\`${type}\``), type);
});
