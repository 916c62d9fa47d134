import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { type ApiHarness, startTestApi } from '../fixtures/api.ts';
import { curl } from '../fixtures/curl.ts';

async function withArtifact(
  api: ApiHarness,
  bytes: Buffer,
): Promise<{ token: string; path: string; list: string }> {
  const { token, ref } = await api.tenant('acme');
  const id = await api.build(token);
  await api.artifact(ref, id, 'rootfs.ext4', bytes);
  return {
    token,
    path: `/v1/builds/${id}/artifacts/rootfs.ext4`,
    list: `/v1/builds/${id}/artifacts`,
  };
}

test('an artifact comes whole, with its digest as strong ETag and in RFC 9530 form', async () => {
  await using api = await startTestApi();
  const bytes = randomBytes(3_000_001);
  const { token, path, list } = await withArtifact(api, bytes);
  const hash = createHash('sha256').update(bytes).digest();
  const answer = await api.fetch(path, { token });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get('etag'), `"sha256:${hash.toString('hex')}"`);
  const field = `sha-256=:${hash.toString('base64')}:`;
  assert.equal(answer.headers.get('content-digest'), field);
  assert.equal(answer.headers.get('repr-digest'), field);
  assert.equal(answer.headers.get('content-length'), String(bytes.length));
  assert.ok(Buffer.from(await answer.arrayBuffer()).equals(bytes));

  const listed = (await (await api.fetch(list, { token })).json()) as {
    artifacts: { href: string; sizeBytes: number }[];
  };
  assert.deepEqual(
    listed.artifacts.map(({ href, sizeBytes }) => [href, sizeBytes]),
    [[path, bytes.length]],
  );
});

test('G14: HEAD, Range, If-Range and If-None-Match do what RFC 9110 says, over both protocols', async () => {
  await using api = await startTestApi();
  const bytes = randomBytes(100_000);
  const { token, path } = await withArtifact(api, bytes);
  const head = await api.fetch(path, { token, method: 'HEAD' });
  const tag = head.headers.get('etag') ?? '';
  assert.deepEqual(
    [head.status, head.headers.get('content-length'), await head.text()],
    [200, '100000', ''],
  );

  const ask = async (headers: Record<string, string>): Promise<[number, Buffer, string | null]> => {
    const answer = await api.fetch(path, { token, headers });
    return [
      answer.status,
      Buffer.from(await answer.arrayBuffer()),
      answer.headers.get('content-range'),
    ];
  };
  const whole = [200, bytes, null];
  assert.deepEqual(await ask({ range: 'bytes=10-19' }), [
    206,
    bytes.subarray(10, 20),
    'bytes 10-19/100000',
  ]);
  assert.deepEqual(await ask({ range: 'bytes=-1' }), [
    206,
    bytes.subarray(-1),
    'bytes 99999-99999/100000',
  ]);
  assert.deepEqual(await ask({ range: 'bytes=10-', 'if-range': tag }), [
    206,
    bytes.subarray(10),
    'bytes 10-99999/100000',
  ]);
  assert.deepEqual(await ask({ range: 'bytes=10-', 'if-range': `W/${tag}` }), whole);
  assert.deepEqual(await ask({ range: 'bytes=10-', 'if-range': '"sha256:other"' }), whole);
  assert.deepEqual(await ask({ range: 'bytes=0-1,5-6' }), whole);
  assert.equal((await ask({ 'if-none-match': `"x", W/${tag}` }))[0], 304);
  assert.equal((await ask({ 'if-none-match': '"x"' }))[0], 200);

  for (const version of ['--http1.1', '--http2-prior-knowledge']) {
    const part = await curl(
      version,
      '-H',
      `Authorization: Bearer ${token}`,
      '-r',
      '5-5',
      `${api.url}${path}`,
    );
    assert.deepEqual(
      [part.status, part.headers.get('content-length'), part.headers.has('content-digest')],
      [206, '1', false],
    );
    const beyond = await curl(
      version,
      '-H',
      `Authorization: Bearer ${token}`,
      '-r',
      '100000-',
      `${api.url}${path}`,
    );
    assert.deepEqual([beyond.status, beyond.headers.get('content-range')], [416, 'bytes */100000']);
    assert.equal(beyond.headers.get('content-type'), 'application/problem+json');
  }
});

test('an artifact without bytes, and one whose bytes are gone, are told apart', async () => {
  await using api = await startTestApi();
  const { token, ref } = await api.tenant('acme');
  const id = await api.build(token);
  await api.artifact(ref, id, 'rootfs.ext4', Buffer.alloc(0));
  const empty = await api.fetch(`/v1/builds/${id}/artifacts/rootfs.ext4`, { token });
  assert.deepEqual(
    [empty.status, empty.headers.get('content-length'), await empty.text()],
    [200, '0', ''],
  );

  await api.artifact(ref, id, 'build.log', Buffer.from('gone'));
  await api.harness.database.k
    .updateTable('blobs')
    .set({ state: 'missing' })
    .where('size_bytes', '=', 4)
    .execute();
  const gone = await api.fetch(`/v1/builds/${id}/artifacts/build.log`, { token });
  assert.deepEqual(
    [gone.status, ((await gone.json()) as { code: string }).code],
    [410, 'artifact.missing'],
  );
});
