import assert from 'node:assert/strict';
import { createServer, connect, type Socket } from 'node:net';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createApi } from '../../src/api/api.ts';
import { type ApiHarness, HEALTHY, memoryLog, startTestApi } from '../fixtures/api.ts';
import { type CtlUser, ctlUser } from '../fixtures/run-ctl.ts';
import { inTime } from '../fixtures/services.ts';

/** Someone with a build of their own. */
async function someone(
  api: ApiHarness,
): Promise<AsyncDisposable & { readonly user: CtlUser; readonly id: string }> {
  const { token } = await api.tenant('acme');
  const user = await ctlUser({ BUILDERCTL_SERVER: api.url, BUILDERCTL_TOKEN: token });
  const id = await api.build(token);
  return { user, id, [Symbol.asyncDispose]: () => user[Symbol.asyncDispose]() };
}

const messagesOf = (stdout: string): string[] =>
  stdout
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { message: string }).message);

test('logs prints a log of many pages, from where it is told, and harms no terminal', async () => {
  await using api = await startTestApi();
  await using it = await someone(api);
  const { user, id } = it;
  const messages = Array.from({ length: 2100 }, (_, n) => `line ${n}`);
  await api.log(id, [...messages, 'evil \u001b]0;owned\u0007\u001b[2J \u009b31m \u202e end'], {
    end: true,
  });
  const json = await user.run(['logs', '--json', id]);
  assert.equal(json.code, 0);
  assert.deepEqual(messagesOf(json.stdout).slice(0, 2100), messages);
  const tail = await user.run(['logs', '--from', '2099', id]);
  assert.match(tail.stdout, /^22:13:20\.000 INFO  builder: line 2099\n.*evil .* end\n$/);
  for (const { stdout } of [json, tail]) {
    // oxlint-disable-next-line no-control-regex -- exactly those must not come through
    assert.doesNotMatch(stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  }
  const followed = await user.run(['logs', '-f', '--from', '2099', id]);
  assert.equal(followed.code, 0);
  assert.equal(followed.stdout, tail.stdout);
});

test('logs -f ends with 1 when the build failed', async () => {
  await using api = await startTestApi();
  await using it = await someone(api);
  const { user, id } = it;
  await api.log(id, ['one']);
  const run = user.start(['logs', '-f', id]);
  await run.says('one');
  await api.harness.end(id as Parameters<typeof api.harness.end>[0], 'failed');
  api.services.database.ring('logs');
  assert.equal((await run.ended).code, 1);
});

test('logs -f goes on across a restart of the server, each entry once and in order', async () => {
  await using api = await startTestApi();
  await using it = await someone(api);
  const { user, id } = it;
  const run = user.start(['logs', '-f', '--json', id]);
  await api.log(id, ['one', 'two']);
  await run.says('two');
  await api.api.close({ graceMs: 100 });
  await run.says('going on as soon as it answers');
  await api.log(id, ['three']);
  await using again = await createApi({
    host: '127.0.0.1',
    port: api.port,
    builds: api.harness.service,
    tenants: api.services.tenants,
    events: api.services.events,
    auth: { mode: 'tokens' },
    health: HEALTHY,
    log: memoryLog([]),
    version: '0.0.0-test',
  });
  await again.listen();
  await run.says('three');
  await api.log(id, ['four'], { end: true });
  const { code, stdout } = await run.ended;
  assert.equal(code, 0);
  assert.deepEqual(messagesOf(stdout), ['one', 'two', 'three', 'four']);
});

test('events -f goes on after cut connections without a gap or a repeat', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const sockets = new Set<Socket>();
  const cutter = createServer((near) => {
    const far = connect(api.port, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy()).on('close', () => to.destroy());
      from.pipe(to);
    }
  });
  cutter.listen(0, '127.0.0.1');
  await once(cutter, 'listening');
  const { port } = cutter.address() as AddressInfo;
  await using user = await ctlUser({
    BUILDERCTL_SERVER: `http://127.0.0.1:${port}`,
    BUILDERCTL_TOKEN: token,
  });
  try {
    const run = user.start(['events', '-f', '--json']);
    const ids: string[] = [];
    for (let round = 0; round < 3; round += 1) {
      ids.push(await api.build(token));
      await run.says(ids.at(-1) ?? '');
      for (const socket of sockets) socket.destroy();
    }
    run.child.kill('SIGINT');
    const { code, stdout } = await run.ended;
    assert.equal(code, 130);
    const lines = stdout.trim().split('\n');
    const last = JSON.parse(lines.pop() ?? '') as { error: { hint: string } };
    assert.equal(last.error.hint, 'Go on with `builderctl events -f --after 3`.');
    const events = lines.map((line) => JSON.parse(line) as { seq: number; buildId: string });
    assert.deepEqual(
      events.map(({ seq, buildId }) => [seq, buildId]),
      ids.map((id, index) => [index + 1, id]),
    );
  } finally {
    for (const socket of sockets) socket.destroy();
    cutter.close();
  }
});

test('build --follow tells queue, log and end; exit code and JSON are those of the build', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  await using user = await ctlUser({ BUILDERCTL_SERVER: api.url, BUILDERCTL_TOKEN: token });
  const run = user.start(['build', 'debian:12', '--follow', '--json', '--progress', 'plain']);
  await run.says('is pending: ');
  const { builds } = (await user.json(['builds', 'list'])) as { builds: { id: string }[] };
  const id = builds[0]?.id ?? '';
  await api.log(id, ['unpacking']);
  await run.says('builder: unpacking');
  await api.end(id);
  const { code, stdout } = await run.ended;
  assert.equal(code, 0);
  const built = JSON.parse(stdout) as { id: string; state: string; saved: unknown };
  assert.deepEqual([built.id, built.state, built.saved], [id, 'completed', []]);

  const failing = user.start(['build', 'debian:12', '--follow', '--progress', 'json']);
  await failing.says('"state":"pending"');
  const failed = ((await user.json(['builds', 'list'])) as { builds: { id: string }[] }).builds[0];
  assert.ok(failed !== undefined);
  await api.harness.end(failed.id as Parameters<typeof api.harness.end>[0], 'failed');
  api.services.database.ring('logs');
  const end = await failing.ended;
  assert.equal(end.code, 1);
  assert.match(end.stderr, /^builderctl: Cannot finish build .*\nnext: .*\n$/m);
});

const INTERRUPTS: readonly (readonly [readonly string[], boolean, RegExp])[] = [
  [
    [],
    false,
    /next: Follow it again with `builderctl logs -f .*`, or cancel it with `builderctl builds cancel /,
  ],
  [
    ['--cancel-on-interrupt'],
    true,
    /is being cancelled\nnext: Look at it with `builderctl builds get /,
  ],
];
for (const [options, isCancelled, message] of INTERRUPTS) {
  test(`Ctrl-C while following ${isCancelled ? 'cancels' : 'leaves'} the build with ${JSON.stringify(options)}`, async () => {
    await using api = await startTestApi();
    const { ref, token } = await api.tenant('acme');
    await using user = await ctlUser({ BUILDERCTL_SERVER: api.url, BUILDERCTL_TOKEN: token });
    const run = user.start(['build', 'debian:12', '--follow', ...options]);
    await run.says('is pending');
    run.child.kill('SIGINT');
    const { code, stderr } = await run.ended;
    assert.equal(code, 130);
    assert.match(stderr, message);
    const { builds } = await api.harness.service.list(ref, { limit: 1 }, inTime());
    assert.equal(builds[0]?.cancelRequested, isCancelled);
  });
}
