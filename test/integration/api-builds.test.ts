import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startTestApi } from '../fixtures/api.ts';

test('POST /v1/builds answers 202 with Location, and the build can be read, listed, cancelled and deleted', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const made = await api.fetch('/v1/builds', {
    method: 'POST',
    token,
    json: {
      source: { image: { reference: 'debian:12', auth: { username: 'u', password: 'canary-7f' } } },
      labels: { team: 'a' },
    },
  });
  assert.equal(made.status, 202);
  const build = (await made.json()) as { id: string; state: string; spec: unknown };
  assert.equal(made.headers.get('location'), `/v1/builds/${build.id}`);
  assert.equal(build.state, 'pending');
  assert.doesNotMatch(JSON.stringify(build), /canary-7f|password/);

  const read = await api.fetch(`/v1/builds/${build.id}`, { token });
  assert.equal(read.status, 200);
  assert.equal(((await read.json()) as { tenant: string }).tenant, 'acme');

  const listed = await api.fetch('/v1/builds?state=pending&label=team=a&limit=1', { token });
  const page = (await listed.json()) as { builds: { id: string }[]; total: number };
  assert.deepEqual([page.total, page.builds.map(({ id }) => id)], [1, [build.id]]);

  const cancelled = await api.fetch(`/v1/builds/${build.id}/cancel`, { method: 'POST', token });
  assert.equal(cancelled.status, 202);
  assert.equal(((await cancelled.json()) as { state: string }).state, 'cancelled');

  const deleted = await api.fetch(`/v1/builds/${build.id}`, { method: 'DELETE', token });
  assert.equal(deleted.status, 204);
  assert.equal((await api.fetch(`/v1/builds/${build.id}`, { token })).status, 404);
});
