import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { readSources } from '../../contrib/dev/import-graph.ts';
import { type ApiHarness, startTestApi, stringMember } from '../fixtures/api.ts';

interface Entry {
  readonly at: string;
  readonly actor: string;
  readonly tenant?: string;
  readonly action: string;
  readonly target: string;
  readonly oldValue?: unknown;
  readonly newValue?: unknown;
  readonly requestId: string;
  readonly address: string;
}

async function audit(api: ApiHarness): Promise<readonly Entry[]> {
  const answer = await api.fetch('/v1/audit', { token: api.operator });
  assert.equal(answer.status, 200);
  return ((await answer.json()) as { entries: readonly Entry[] }).entries;
}

/** Does something, and gives the one entry that it left together with the answer's request id. */
async function trace(
  api: ApiHarness,
  path: string,
  options: Parameters<ApiHarness['fetch']>[1],
): Promise<{ readonly entry: Entry; readonly body: string }> {
  const before = (await audit(api)).length;
  const answer = await api.fetch(path, options);
  const body = await answer.text();
  assert.ok(answer.ok, `${path}: ${answer.status} ${body}`);
  const entries = await audit(api);
  assert.equal(entries.length, before + 1, `${options?.method} ${path} leaves one entry`);
  const [entry] = entries;
  assert.ok(entry !== undefined);
  assert.equal(entry.requestId, answer.headers.get('x-request-id'));
  assert.match(entry.address, /^(?:::ffff:)?127\.0\.0\.1$/);
  return { entry, body };
}

test('H24: who changed a quota, who cancelled, and who made or took a token stands in the audit log', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const as = { token, method: 'POST' };
  const operator = { token: api.operator, headers: { 'x-tenant-id': 'acme' } };
  const quota = await trace(api, '/v1/quotas', {
    ...operator,
    method: 'PATCH',
    json: { maxDailyBuilds: 7 },
  });
  assert.match(quota.entry.action, /^tenant\./);
  assert.equal(quota.entry.tenant, 'acme');
  assert.match(quota.entry.actor, /^token:/);
  assert.match(JSON.stringify(quota.entry.oldValue), /"maxDailyBuilds":1000/);
  assert.match(JSON.stringify(quota.entry.newValue), /"maxDailyBuilds":7/);

  const id = await api.build(token);
  const cancel = await trace(api, `/v1/builds/${id}/cancel`, as);
  assert.deepEqual(
    [cancel.entry.action, cancel.entry.target, cancel.entry.tenant],
    ['build.cancel', id, 'acme'],
  );
  assert.notEqual(cancel.entry.actor, quota.entry.actor, 'the tenant did it, not the operator');
  // A repeat changes nothing and leaves nothing.
  const before = (await audit(api)).length;
  assert.equal((await api.fetch(`/v1/builds/${id}/cancel`, as)).status, 202);
  assert.equal((await audit(api)).length, before);

  const remove = await trace(api, `/v1/builds/${id}`, { token, method: 'DELETE' });
  assert.deepEqual([remove.entry.action, remove.entry.target], ['build.delete', id]);

  const json = { name: 'ci', role: 'tenant' };
  const made = await trace(api, '/v1/tokens', { ...as, json });
  assert.equal(made.entry.action, 'token.create');
  const answered: unknown = JSON.parse(made.body);
  const secret = stringMember(answered, 'secret');
  const tokenId = stringMember(Reflect.get(answered as object, 'token'), 'id');
  const taken = await trace(api, `/v1/tokens/${tokenId}`, { token, method: 'DELETE' });
  assert.match(taken.entry.action, /^token\.(?:revoke|delete)$/);
  const whole = JSON.stringify(await audit(api));
  assert.ok(!whole.includes(secret), 'no entry holds a token');
});

test('H24: the audit log can only grow: nothing in the program changes or removes an entry', () => {
  const sources = readSources(resolve(import.meta.dirname, '../..'), ['src']);
  const faults = [...sources].filter(([, text]) =>
    /(?:updateTable|deleteFrom|replaceInto)\('audit'\)|(?:update|delete from|truncate)\s+"?audit"?\b/i.test(
      text,
    ),
  );
  assert.deepEqual(
    faults.map(([path]) => path),
    [],
  );
});
