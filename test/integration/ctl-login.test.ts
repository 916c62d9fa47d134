import assert from 'node:assert/strict';
import { chmod, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { startTestApi } from '../fixtures/api.ts';
import { makeCerts } from '../fixtures/registry-certs.ts';
import { ctlUser } from '../fixtures/run-ctl.ts';

test('login checks the token, stores it for its user alone, and never says it', async () => {
  await using api = await startTestApi();
  await using user = await ctlUser();
  const { token } = await api.tenant('acme');
  const file = join(user.home, 'token');
  await writeFile(file, `${token}\n`);

  const outputs = [
    await user.run(['login', api.url, '--token-file', file, '--name', 'work', '--tenant', 'acme']),
    await user.run(['builds', 'list', '--json']),
    await user.run(['context', 'list']),
    await user.run(['context', 'list', '--json']),
  ];
  for (const { code, stdout, stderr } of outputs) {
    assert.equal(code, 0, stderr);
    assert.ok(!`${stdout}${stderr}`.includes(token));
  }
  assert.equal(outputs[0]?.stdout, `Logged in to ${api.url} as context work, for tenant acme\n`);
  assert.match(outputs[2]?.stdout ?? '', /^\* +work +http:\S+ +acme$/m);
  assert.equal((await stat(user.contextsFile)).mode & 0o777, 0o600);
  assert.equal((await stat(dirname(user.contextsFile))).mode & 0o777, 0o700);
});

test('a token that the server refuses is not stored', async () => {
  await using api = await startTestApi();
  await using user = await ctlUser();
  const refused = await user.run(['login', api.url, '--token-stdin'], { stdin: 'bld_wrong\n' });
  assert.equal(refused.code, 2);
  assert.match(
    refused.stderr,
    /^builderctl: Cannot .*unknown, revoked or expired\nnext: Log in with a valid token: `builderctl login URL --token-file FILE`\.\n$/,
  );
  await assert.rejects(stat(user.contextsFile), { code: 'ENOENT' });
  const { token } = await api.tenant('acme');
  const other = await user.run(['login', api.url, '--token-stdin', '--tenant', 'beta'], {
    stdin: token,
  });
  assert.equal(other.code, 2);
  await assert.rejects(stat(user.contextsFile), { code: 'ENOENT' });
});

test('an operator logs in without a tenant; contexts are chosen, removed and logged out of', async () => {
  await using api = await startTestApi();
  await using user = await ctlUser();
  await api.tenant('acme');
  for (const name of ['one', 'two']) {
    const login = ['login', api.url, '--token-stdin', '--name', name];
    assert.equal((await user.run(login, { stdin: api.operator })).code, 0);
  }
  assert.equal((await user.run(['tenants', 'list'])).code, 0);
  const nobody = await user.run(['usage']);
  assert.match(nobody.stderr, /next: .*`--tenant NAME` chooses the tenant/);
  assert.equal((await user.run(['usage', '--tenant', 'acme'])).code, 0);
  assert.equal((await user.run(['context', 'use', 'one'])).code, 0);
  const listed = await user.json(['context', 'list']);
  assert.deepEqual(listed, {
    contexts: [
      { name: 'one', server: api.url, current: true },
      { name: 'two', server: api.url, current: false },
    ],
  });
  assert.equal((await user.run(['context', 'use', 'three'])).code, 2);
  assert.equal((await user.run(['logout'])).code, 0);
  const out = await user.run(['tenants', 'list']);
  assert.equal(out.code, 2);
  assert.match(out.stderr, /Cannot tell the server: run builderctl login/);
  assert.equal((await user.run(['tenants', 'list', '--context', 'two'])).code, 0);
  assert.equal((await user.run(['context', 'remove', 'two'])).code, 0);
  assert.deepEqual(await user.json(['context', 'list']), { contexts: [] });
});

test('contexts that others may read, that are a link, or that are broken are refused', async () => {
  await using api = await startTestApi();
  await using user = await ctlUser();
  const login = ['login', api.url, '--token-stdin'];
  assert.equal((await user.run(login, { stdin: api.operator })).code, 0);
  await chmod(user.contextsFile, 0o644);
  const open = await user.run(['tenants', 'list']);
  assert.equal(open.code, 2);
  assert.match(open.stderr, /others may read it; run chmod 600 /);

  await chmod(user.contextsFile, 0o600);
  await writeFile(user.contextsFile, '{"contexts": []}');
  assert.match((await user.run(['tenants', 'list'])).stderr, /does not hold contexts/);
  const complete = { BUILDERCTL_SERVER: api.url, BUILDERCTL_TOKEN: api.operator };
  assert.equal((await user.run(['tenants', 'list'], { env: complete })).code, 0);

  await using linked = await ctlUser();
  assert.equal((await linked.run(login, { stdin: api.operator })).code, 0);
  const real = await readFile(linked.contextsFile);
  await writeFile(join(linked.home, 'elsewhere'), real, { mode: 0o600 });
  await rm(linked.contextsFile);
  await symlink(join(linked.home, 'elsewhere'), linked.contextsFile);
  assert.match((await linked.run(['tenants', 'list'])).stderr, /ELOOP/);
});

test("a context's token goes to its own server only", async () => {
  await using api = await startTestApi();
  await using user = await ctlUser();
  const seen: (string | undefined)[] = [];
  const other = createServer((request, response) => {
    seen.push(request.headers.authorization);
    response.writeHead(401, { 'content-type': 'text/plain' }).end('who?');
  });
  other.listen(0, '127.0.0.1');
  await once(other, 'listening');
  try {
    const { port } = other.address() as AddressInfo;
    assert.equal(
      (await user.run(['login', api.url, '--token-stdin'], { stdin: api.operator })).code,
      0,
    );
    const { code } = await user.run(['tenants', 'list', '--server', `http://127.0.0.1:${port}`]);
    assert.equal(code, 3);
    assert.deepEqual(seen, [undefined]);
  } finally {
    other.close();
  }
});

test('options stand above the environment, and the environment above the context', async () => {
  await using api = await startTestApi();
  await using user = await ctlUser();
  const acme = await api.tenant('acme');
  const beta = await api.tenant('beta');
  const file = join(user.home, 'token');
  await writeFile(file, beta.token);
  assert.equal(
    (await user.run(['login', api.url, '--token-stdin'], { stdin: acme.token })).code,
    0,
  );
  const env = { BUILDERCTL_TOKEN: 'bld_nobody' };
  assert.equal((await user.run(['usage'])).code, 0);
  assert.equal((await user.run(['usage'], { env })).code, 2);
  assert.equal((await user.run(['usage', '--token-file', file], { env })).code, 0);
  const named = await user.run(['usage'], { env: { BUILDERCTL_TENANT: 'beta' } });
  assert.equal(named.code, 2);
  assert.match(named.stderr, /Cannot act for this tenant/);
});

test('bad words are refused before anything is sent', async () => {
  await using user = await ctlUser();
  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [['login', 'http://u:p@h/'], /histories/],
    [['login', 'ftp://h/'], /want a URL such as https/],
    [['login', 'http://h/?token=x'], /no query/],
    [['login', 'http://h/'], /want --token-file FILE or --token-stdin/],
    [['login', 'http://h/', '--token', 'x'], /unknown option/],
    [['login', 'http://h/', '--name', '../x', '--token-stdin'], /name of a context/],
    [['builds'], /no command was named/],
    [['builds', 'lst'], /did you mean list\?/],
    [['bilds'], /did you mean builds\?/],
    [['build'], /missing required argument/],
    [['build', 'oci:./x', '--server', 'http://h'], /reads no files of this machine/],
    [['build', 'git+https://u:p@h/r', '--server', 'http://h'], /its URL holds a login/],
    [['build', 'a', '--detach', '-o', 'x'], /cannot be used with/],
    [['build', 'a', '--size', 'big', '--server', 'http://h'], /Cannot use --size "big"/],
    [['build', 'a', '--label', 'x', '--server', 'http://h'], /want key=value/],
    [['build', 'a', '--priority', '101', '--server', 'http://h'], /from -100 to 100/],
    [['quota', 'set', 't', 'maxDisk=1', '--server', 'http://h'], /no such quota/],
    [['quota', 'set', 't', 'maxDiskBytes=1 lot', '--server', 'http://h'], /want a size/],
    [['completion', 'tcsh'], /want bash, zsh, fish/],
    [['builds', 'list', '--context', 'nope'], /context list shows/],
  ];
  const runs = await Promise.all(wrong.map(([args]) => user.run(args)));
  runs.forEach(({ code, stdout, stderr }, index) => {
    const [args = [], message = /never/] = wrong[index] ?? [];
    assert.equal(code, 2, `${args.join(' ')}: ${stdout}${stderr}`);
    assert.match(stderr, message);
    assert.match(stderr, /builderctl: Cannot .*\nnext: .*\.\n$/);
    assert.doesNotMatch(stderr, /\n\s+at /);
  });
});

test('https is spoken to a server whose authority is known, and to no other', async () => {
  await using user = await ctlUser();
  const certs = await makeCerts(join(user.home, 'certs'));
  const server = createTlsServer({ cert: certs.cert, key: certs.key }, (request, response) => {
    response.end(request.url === '/tools/health' ? 'ok\n' : '{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const login = ['login', `https://127.0.0.1:${port}/tools`, '--token-stdin'];
    const unknown = await user.run(login, { stdin: 'bld_x' });
    assert.equal(unknown.code, 3);
    assert.match(unknown.stderr, /its certificate is not trusted \(.*\); --ca-file names/);
    const trusted = await user.run([...login, '--ca-file', 'certs/ca.pem'], { stdin: 'bld_x' });
    assert.equal(trusted.code, 0, trusted.stderr);
    assert.deepEqual(await user.json(['quota', 'get']), { quotas: {} });
    const otherName = await user.run([
      'quota',
      'get',
      '--server',
      `https://localhost:${port}/tools`,
    ]);
    assert.equal(otherName.code, 3);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
