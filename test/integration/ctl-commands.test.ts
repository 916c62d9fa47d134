import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ApiHarness, startTestApi, stringMember } from '../fixtures/api.ts';
import { type CtlUser, ctlUser } from '../fixtures/run-ctl.ts';

interface People extends AsyncDisposable {
  readonly user: CtlUser;
  readonly operator: CtlUser;
}

/** Someone of a tenant, and an operator, at one server. */
async function people(api: ApiHarness): Promise<People> {
  const { token } = await api.tenant('acme');
  const env = { BUILDERCTL_SERVER: api.url, BUILDERCTL_TENANT: 'acme' };
  const user = await ctlUser({ ...env, BUILDERCTL_TOKEN: token });
  const operator = await ctlUser({ ...env, BUILDERCTL_TOKEN: api.operator });
  return {
    user,
    operator,
    async [Symbol.asyncDispose]() {
      await user[Symbol.asyncDispose]();
      await operator[Symbol.asyncDispose]();
    },
  };
}

async function ok(user: CtlUser, args: readonly string[], stdin = ''): Promise<string> {
  const { code, stdout, stderr } = await user.run(args, { stdin });
  assert.equal(code, 0, `${args.join(' ')}: ${stderr}`);
  return stdout;
}

function member(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null ? Reflect.get(at, key) : undefined),
    value,
  );
}

test('builds: asked for, listed, shown, cancelled and deleted, as text and as JSON', async () => {
  await using api = await startTestApi();
  await using everyone = await people(api);
  const { user } = everyone;

  const id = (
    await ok(user, ['build', 'debian:12', '--label', 'team=core', '--name', 'base'])
  ).trim();
  assert.match(id, /^[0-9a-f-]{36}$/);
  const other = await user.json([
    ...['build', 'docker://alpine:3', '--format', 'ext4,tar', '--size', 'min+64M', '--journal'],
    ...['--platform', 'linux/x86_64', '--timeout', '10m', '--priority', '-5', '--pull', 'always'],
    ...['--exclude', '**/*.pyc', '--exclude', 'srv', '--preserve', 'srv/x', '--remove-docs'],
    ...['--no-lost-found', '--guest-files', '--devices', 'drop', '--source-date-epoch', '0'],
  ]);
  const otherId = stringMember(other, 'id');
  assert.deepEqual(member(other, 'spec', 'target'), {
    formats: ['ext4', 'tar'],
    extraBytes: 64 * 1024 ** 2,
    journal: true,
    lostFound: false,
    guestFiles: true,
    devices: 'drop',
    exclude: ['**/*.pyc', 'srv'],
    preserve: ['srv/x'],
    removeDocs: true,
    sourceDateEpoch: 0,
  });
  assert.deepEqual(
    ['platform', 'pullPolicy', 'timeoutSeconds'].map((key) => member(other, 'spec', key)),
    ['linux/amd64', 'always', 600],
  );
  assert.equal(member(other, 'priority'), -5);

  const table = await ok(user, ['builds', 'list']);
  assert.match(table, /^BUILD +STATE +PROGRESS +NAME +CREATED +SIZE\n/);
  assert.match(table, new RegExp(`^${id} +pending +\\d+ ahead +base `, 'm'));
  const page = await user.json(['builds', 'list', '--label', 'team=core', '--state', 'pending']);
  assert.deepEqual([member(page, 'total'), member(page, 'builds', 0, 'id')], [1, id]);
  const first = await user.json(['builds', 'list', '--limit', '1']);
  const cursor = stringMember(first, 'nextCursor');
  const second = await user.json(['builds', 'list', '--limit', '1', '--cursor', cursor]);
  assert.notEqual(member(first, 'builds', 0, 'id'), member(second, 'builds', 0, 'id'));

  const shown = await ok(user, ['builds', 'get', id]);
  assert.match(shown, /^State: +pending\nWaits: +No executor is running$/m);
  assert.match(shown, /^Labels: +team=core$/m);
  assert.equal(member(await user.json(['builds', 'get', id]), 'id'), id);

  assert.match(await ok(user, ['builds', 'cancel', id]), new RegExp(`^Build ${id} is `));
  assert.equal(member(await user.json(['builds', 'cancel', id]), 'cancelRequested'), true);
  assert.equal(await ok(user, ['builds', 'delete', id]), `Build ${id} is deleted\n`);
  assert.deepEqual(await user.json(['builds', 'delete', otherId, '--force']), {
    id: otherId,
    deleted: true,
  });
  const gone = await user.run(['builds', 'get', id, '--json']);
  assert.equal(gone.code, 1);
  assert.equal(member(JSON.parse(gone.stdout), 'error', 'code'), 'api.not_found');
});

test('what cannot be meant is told in the words of the mistake', async () => {
  await using user = await ctlUser({ BUILDERCTL_SERVER: 'http://127.0.0.1:1' });
  for (const [args, message] of [
    [['--server', 'http://h', 'builds', 'list'], /--server comes after the command/],
    [['--tenant', 'a', 'build', 'x'], /--tenant comes after the command/],
    [['build', './dir'], /Cannot send "\.\/dir" to a server: it looks like a path/],
    [['build', '/etc'], /it looks like a path/],
    [['build', '~/x'], /it looks like a path/],
    [['builds', 'list', '--sever', 'x'], /unknown option '--sever'/],
  ] as const) {
    const { code, stderr } = await user.run(args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
});

test('the same idempotency key gives the same build; another body is refused', async () => {
  await using api = await startTestApi();
  await using everyone = await people(api);
  const { user } = everyone;
  const key = ['--idempotency-key', 'job-7'];
  const first = await ok(user, ['build', 'debian:12', ...key]);
  assert.equal(await ok(user, ['build', 'debian:12', ...key]), first);
  const reused = await user.run(['build', 'debian:13', ...key]);
  assert.equal(reused.code, 1);
  assert.match(reused.stderr, /^builderctl: Cannot .*\nnext: .*\n$/);
});

test('tenants and quotas: made, shown, tried, changed and suspended by an operator', async () => {
  await using api = await startTestApi();
  await using everyone = await people(api);
  const { user, operator } = everyone;

  const made = await ok(operator, [
    'tenants',
    'create',
    'beta',
    '--tier',
    'pro',
    '--quota',
    'maxStorageBytes=5GiB',
  ]);
  assert.match(made, /^maxStorageBytes +5\.0 GiB +override$/m);
  assert.match(await ok(operator, ['tenants', 'list']), /^beta +pro +active +1 /m);
  assert.equal(member(await operator.json(['tenants', 'get', 'beta']), 'tier'), 'pro');

  const change = [
    'quota',
    'set',
    'beta',
    'maxStorageBytes=default',
    'maxBuildMinutes=20m',
    'allowedRegistries=docker.io,ghcr.io',
  ];
  const tried = await ok(operator, [...change, '--dry-run']);
  assert.match(tried, /^TENANT beta +BEFORE +AFTER\n/);
  assert.match(tried, /^maxBuildMinutes +15 min +20 min$/m);
  assert.match(tried, /^maxStorageBytes +5\.0 GiB +10\.0 GiB$/m);
  assert.match(tried, /^allowedRegistries +\* +docker\.io,ghcr\.io$/m);
  assert.match(tried, /Nothing was changed/);
  const still = await operator.json(['quota', 'get', 'beta']);
  assert.equal(member(still, 'quotas', 'maxStorageBytes'), 5 * 1024 ** 3);
  const done = await operator.json(change);
  assert.deepEqual(
    [member(done, 'dryRun'), member(done, 'before', 'version'), member(done, 'after', 'version')],
    [false, 0, 1],
  );
  assert.match(
    await ok(operator, ['quota', 'get', 'beta']),
    /^maxBuildMinutes +20 min +override$/m,
  );
  assert.match(await ok(user, ['quota', 'get']), /^maxConcurrentBuilds +3$/m);

  const wrong = await operator.run(['quota', 'set', 'beta', 'timeoutSeconds=2h', '--dry-run']);
  assert.equal(wrong.code, 2, 'a deadline beyond maxBuildMinutes is refused by the server');
  assert.match(
    await ok(operator, ['tenants', 'update', 'beta', '--tier', 'free']),
    /^tier +pro +free$/m,
  );
  assert.equal(await ok(operator, ['tenants', 'suspend', 'beta']), 'Tenant beta is suspended\n');
  assert.equal(await ok(operator, ['tenants', 'resume', 'beta']), 'Tenant beta is active\n');

  const refused = await user.run(['tenants', 'list']);
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /^builderctl: Cannot do this: it is for operators\nnext: /);
});

test('tokens: made into a file of mode 0600 or shown on demand, listed and revoked', async () => {
  await using api = await startTestApi();
  await using everyone = await people(api);
  const { user } = everyone;
  const create = ['token', 'create', '--role', 'reader', '--name', 'ci', '--ttl', '30d'];

  const nowhere = await user.run(create);
  assert.equal(nowhere.code, 2);
  const file = join(user.home, 'ci.token');
  const made = await user.json([...create, '--secret-file', file]);
  const secret = (await readFile(file, 'utf8')).trim();
  assert.match(secret, /^bld_/);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.ok(!JSON.stringify(made).includes(secret));
  assert.equal(member(made, 'token', 'role'), 'reader');
  assert.match(String(member(made, 'token', 'expiresAt')), /^\d{4}-/);
  const reader = { env: { BUILDERCTL_TOKEN: secret } };
  assert.equal((await user.run(['builds', 'list'], reader)).code, 0);
  assert.equal((await user.run(['build', 'debian:12'], reader)).code, 2);

  const again = await user.run([...create, '--secret-file', file]);
  assert.match(again.stderr, /it is there already/);
  assert.match(await ok(user, [...create, '--show-secret']), /^Token .* is made\nbld_\S+\n$/);
  const id = stringMember(member(made, 'token'), 'id');
  assert.match(
    await ok(user, ['token', 'list']),
    new RegExp(`^${id} +\\S+ +reader +acme +ci `, 'm'),
  );
  assert.equal(await ok(user, ['token', 'revoke', id]), `Token ${id} is revoked\n`);
});

test('tokens: all pages are listed, up to a bound that says so', async () => {
  await using api = await startTestApi();
  await using everyone = await people(api);
  const { user, operator } = everyone;
  for (let n = 0; n < 501; n += 1) await api.tenant('acme');
  const all = await user.json(['token', 'list']);
  const tokens = member(all, 'tokens');
  assert.ok(Array.isArray(tokens) && tokens.length > 500);
  assert.equal(new Set(tokens.map((each) => stringMember(each, 'id'))).size, tokens.length);
  assert.equal(member(all, 'truncated'), false);
  const some = await user.json(['token', 'list', '--limit', '3']);
  assert.deepEqual(member(some, 'tokens'), tokens.slice(0, 3));
  assert.equal(member(some, 'truncated'), true);
  assert.match(await ok(user, ['token', 'list', '--limit', '3']), /^There are more than these 3$/m);
  assert.equal((await user.run(['token', 'list', '--limit', '0'])).code, 2);
  assert.ok(Array.isArray(member(await operator.json(['token', 'list']), 'tokens')));
});

test('tokens: who revokes one says what becomes of those that it made', async () => {
  await using api = await startTestApi();
  await api.tenant('acme');
  await using operator = await ctlUser({
    BUILDERCTL_SERVER: api.url,
    BUILDERCTL_TOKEN: api.operator,
  });
  const gone = new Map<string, unknown>();
  for (const words of [[], ['--cascade'], ['--no-cascade']]) {
    const file = join(operator.home, `made${words.join()}`);
    const create = ['token', 'create', '--name', 'x', '--secret-file'];
    const maker = await operator.json([...create, file, '--role', 'operator']);
    const env = { BUILDERCTL_TOKEN: (await readFile(file, 'utf8')).trim() };
    const of = { operator: ['--role', 'operator'], tenant: ['--tenant', 'acme'] };
    const ids: string[] = [];
    for (const [name, args] of Object.entries(of)) {
      const made = await operator.run([...create, `${file}-${name}`, '--json', ...args], { env });
      ids.push(stringMember(member(JSON.parse(made.stdout), 'token'), 'id'));
    }
    const id = stringMember(member(maker, 'token'), 'id');
    await ok(operator, ['token', 'revoke', id, ...words]);
    const left = member(await operator.json(['token', 'list']), 'tokens');
    assert.ok(Array.isArray(left));
    const revoked = new Set(
      left
        .filter((each) => member(each, 'revokedAt') !== undefined)
        .map((each) => stringMember(each, 'id')),
    );
    gone.set(
      words.join(),
      ids.map((each) => revoked.has(each)),
    );
  }
  assert.deepEqual(
    [...gone],
    [
      ['', [true, false]],
      ['--cascade', [true, true]],
      ['--no-cascade', [false, false]],
    ],
  );
});

test('credentials come from standard input or files, and are never shown', async () => {
  await using api = await startTestApi();
  await using everyone = await people(api);
  const { user } = everyone;
  const set = ['credentials', 'set', 'ghcr.io', '--username', 'ci'];
  const stored = await ok(user, [...set, '--password-stdin'], 'hunter2-secret\n');
  assert.match(stored, /^The login for ghcr\.io is stored/);
  const file = join(user.home, 'password');
  await writeFile(file, 'hunter3-secret\n');
  const again = await user.json([...set, '--password-file', file]);
  const id = stringMember(again, 'id');
  for (const text of [
    await ok(user, ['credentials', 'list']),
    JSON.stringify(await user.json(['credentials', 'list'])),
  ]) {
    assert.match(text, /ghcr\.io/);
    assert.doesNotMatch(text, /hunter/);
  }
  assert.equal((await user.run(set)).code, 2);
  assert.equal((await user.run([...set, '--password-stdin', '--password-file', file])).code, 2);
  assert.equal(await ok(user, ['credentials', 'delete', id]), `Login ${id} is forgotten\n`);
});

test('webhooks, events, usage, violations, statistics, audit and health are told', async () => {
  await using api = await startTestApi();
  await using everyone = await people(api);
  const { user, operator } = everyone;
  const id = (await ok(user, ['build', 'debian:12'])).trim();

  const hook = await user.json([
    'webhooks',
    'create',
    'http://8.8.4.4/hook',
    '--event',
    'build.failed',
    '--show-secret',
  ]);
  const hookId = stringMember(member(hook, 'webhook'), 'id');
  assert.deepEqual(member(hook, 'webhook', 'events'), ['build.failed']);
  assert.ok(stringMember(hook, 'secret').length > 20);
  assert.match(
    await ok(user, ['webhooks', 'list']),
    /active +http:\/\/8\.8\.4\.4\/hook +build\.failed/,
  );
  assert.equal(await ok(user, ['webhooks', 'delete', hookId]), `Webhook ${hookId} is deleted\n`);
  const badEvent = await user.run([
    'webhooks',
    'create',
    'http://8.8.4.4/',
    '--event',
    'build.fail',
    '--show-secret',
  ]);
  assert.equal(badEvent.code, 2);

  assert.match(await ok(user, ['events']), new RegExp(`^1 .* build\\.created +${id} `));
  const [event] = (await ok(user, ['events', '--json', '--limit', '1'])).trim().split('\n');
  assert.equal(member(JSON.parse(event ?? ''), 'type'), 'build.created');

  assert.match(await ok(user, ['usage']), /^Waiting builds: +1$/m);
  const today = new Date().toISOString().slice(0, 10);
  assert.match(await ok(user, ['usage', '--from', today, '--to', today]), /^DAY +CREATED/);
  assert.equal(member(await user.json(['usage']), 'queuedBuilds'), 1);
  assert.match(await ok(user, ['violations']), /^AT +QUOTA/);
  assert.deepEqual(await user.json(['violations', '--limit', '5']), { violations: [] });
  assert.match(await ok(user, ['stats']), /^Builds: +1$/m);
  assert.equal(
    member(await user.json(['stats', '--from', '2020-01-01T00:00:00Z']), 'totalBuilds'),
    1,
  );
  assert.match(await ok(operator, ['audit']), /^AT +ACTOR +TENANT +ACTION/);
  assert.ok(Array.isArray(member(await operator.json(['audit', '--limit', '3']), 'entries')));

  assert.equal(await ok(user, ['health']), `${api.url} serves and takes builds\n`);
  assert.deepEqual(await user.json(['health']), { server: api.url, serving: true, ready: true });
  const top = await user.run(['top', '--json']);
  assert.equal(top.code, 2);
  assert.equal(member(JSON.parse(top.stdout), 'error', 'code'), 'not_supported');
});
