import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ApiHarness, startTestApi } from '../fixtures/api.ts';
import { curl } from '../fixtures/curl.ts';

const SSE = { accept: 'text/event-stream' };

/** Reads a body until what came so far has `text`. */
async function readUntil(body: ReadableStream<Uint8Array> | null, text: string): Promise<string> {
  assert.ok(body !== null);
  const decoder = new TextDecoder();
  let seen = '';
  for await (const chunk of body) {
    seen += decoder.decode(chunk, { stream: true });
    if (seen.includes(text)) return seen;
  }
  return seen;
}

async function finished(
  api: ApiHarness,
  messages: readonly string[],
): Promise<{ token: string; path: string; id: string }> {
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  await api.log(id, messages, { end: true });
  return { token, id, path: `/v1/builds/${id}/logs` };
}

test('one log in four forms: plain by default, NDJSON, a JSON page and events by Accept', async () => {
  await using api = await startTestApi();
  const { token, path } = await finished(api, ['one', 'two']);
  const plain = await api.fetch(path, { token });
  assert.equal(plain.headers.get('content-type'), 'text/plain; charset=utf-8');
  assert.equal(
    await plain.text(),
    '2023-11-14T22:13:20.000Z INFO  builder: one\n2023-11-14T22:13:20.000Z INFO  builder: two\n',
  );
  const lines = (
    await (await api.fetch(path, { token, headers: { accept: 'application/x-ndjson' } })).text()
  )
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { n: number; message: string });
  assert.deepEqual(
    lines.map(({ n, message }) => [n, message]),
    [
      [0, 'one'],
      [1, 'two'],
    ],
  );
  const page = (await (
    await api.fetch(`${path}?from=1`, { token, headers: { accept: 'application/json' } })
  ).json()) as {
    entries: { n: number }[];
    next: number;
    ended: boolean;
  };
  assert.deepEqual([page.entries.map(({ n }) => n), page.next, page.ended], [[1], 2, true]);
  const events = await (await api.fetch(path, { token, headers: SSE })).text();
  assert.match(events, /^retry: 2000\n\nid: 0\nevent: log\ndata: \{"n":0,/);
  assert.match(events, /event: end\ndata: \{"state":"completed"\}\n\n$/);
  assert.equal((await api.fetch(path, { token, headers: { accept: 'image/png' } })).status, 406);
});

test("the guide's address for logs works under both package names, with a token", async () => {
  await using api = await startTestApi();
  const { token, id } = await finished(api, ['from the guide']);
  for (const service of ['builder.v1', 'deploy.builderd.v1']) {
    const path = `/${service}.BuilderService/GetBuildLogs/${id}`;
    const answer = await api.fetch(path, { token, headers: { 'x-tenant-id': 'acme' } });
    assert.match(await answer.text(), /builder: from the guide\n$/);
    const json = await api.fetch(path, { token, headers: { accept: 'application/json' } });
    assert.equal(((await json.json()) as { ended: boolean }).ended, true);
    assert.equal((await api.fetch(path)).status, 401);
  }
});

test('events come while the build runs, with heartbeats between, and go on after Last-Event-ID', async () => {
  await using api = await startTestApi({ limits: { heartbeatMs: 50 } });
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const path = `/v1/builds/${id}/logs`;
  const first = await api.fetch(path, { token, headers: SSE });
  const early = readUntil(first.body, 'id: 1\n');
  await new Promise((resolve) => setTimeout(resolve, 200));
  await api.log(id, ['one', 'two', 'three']);
  assert.match(await early, /: still here\n\n/);

  const again = await api.fetch(path, { token, headers: { ...SSE, 'last-event-id': '1' } });
  const rest = again.text();
  await api.end(id);
  const ids = Array.from((await rest).matchAll(/^id: (\d+)$/gm), (match) => Number(match[1]));
  assert.deepEqual(ids, [2]);
  assert.match(await rest, /event: end/);

  const over = await api.fetch(path, { token, headers: { ...SSE, 'last-event-id': '2' } });
  assert.equal(over.status, 204);
  const bad = await api.fetch(path, { token, headers: { ...SSE, 'last-event-id': 'x' } });
  assert.equal(bad.status, 400);
});

test('a log of many pages comes whole and in order in one answer', async () => {
  await using api = await startTestApi();
  const messages = Array.from({ length: 2345 }, (_, n) => `line ${n}`);
  const { token, path } = await finished(api, messages);
  const plain = await (await api.fetch(path, { token })).text();
  assert.deepEqual(
    plain
      .trim()
      .split('\n')
      .map((line) => line.replace(/^.*builder: /, '')),
    messages,
  );
  const followed = await (await api.fetch(`${path}?follow=true&from=2000`, { token })).text();
  assert.equal(followed.trim().split('\n').length, 345);
});

test('events of a tenant: pages by number, and a stream that goes on after Last-Event-ID', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const page = (await (await api.fetch('/v1/events?limit=1', { token })).json()) as {
    events: { seq: number; type: string; buildId: string }[];
    next: number;
  };
  assert.deepEqual(
    page.events.map(({ type, buildId }) => [type, buildId]),
    [['build.created', id]],
  );
  const stream = await api.fetch('/v1/events', {
    token,
    headers: { ...SSE, 'last-event-id': String(page.next) },
  });
  const seen = readUntil(stream.body, 'build.cancelled');
  await api.fetch(`/v1/builds/${id}/cancel`, { method: 'POST', token });
  const text = await seen;
  assert.doesNotMatch(text, /build\.created/);
  assert.match(text, new RegExp(`id: ${page.next + 1}\n`));
});

test('a silent build may be followed for longer than a stalled reader, in every form and protocol', async () => {
  await using api = await startTestApi({
    limits: { stalledMs: 300, idleMs: 400, heartbeatMs: 60_000 },
  });
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const url = `${api.url}/v1/builds/${id}/logs?follow=true`;
  const follow = (version: string, form: string): Promise<{ status: number; body: string }> =>
    curl(version, '-N', '-H', `Authorization: Bearer ${token}`, '-H', `Accept: ${form}`, url);
  const all = ['--http1.1', '--http2-prior-knowledge'].flatMap((version) =>
    ['text/plain', 'application/x-ndjson', 'text/event-stream'].map((form) =>
      follow(version, form),
    ),
  );
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await api.log(id, ['at last'], { end: true });
  for (const { status, body } of await Promise.all(all)) {
    assert.equal(status, 200);
    assert.match(body, /at last/);
  }
});
