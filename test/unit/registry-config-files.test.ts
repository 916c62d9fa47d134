import assert from 'node:assert/strict';
import { mkdir, mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { dockerCredentials } from '../../src/runtime/registry/credentials.ts';
import { credentialHost, parseDockerConfig } from '../../src/runtime/registry/docker-config.ts';
import { hostsConfig } from '../../src/runtime/registry/hosts-config.ts';
import { parseHostsToml } from '../../src/runtime/registry/hosts-toml.ts';

const call = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(10_000) });
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const parse = (value: unknown): ReturnType<typeof parseDockerConfig> =>
  parseDockerConfig(Buffer.from(JSON.stringify(value)));

test('parseDockerConfig() reads every form of an account', () => {
  const { auths, credHelpers, credsStore } = parse({
    auths: {
      'https://index.docker.io/v1/': { auth: base64('me:a:b') },
      'registry.test:5000': { username: 'u', password: 'p' },
      'Token.Test': { auth: base64('x:y'), identitytoken: 't' },
      'empty.test': {},
      'path.test/team': { auth: base64('u:p') },
    },
    credHelpers: { 'gcr.io': 'gcloud' },
    credsStore: 'pass',
    HttpHeaders: { x: 'y' },
  });
  assert.deepEqual(
    [...auths],
    [
      ['docker.io', { kind: 'password', user: 'me', password: 'a:b' }],
      ['registry.test:5000', { kind: 'password', user: 'u', password: 'p' }],
      ['token.test', { kind: 'identity-token', token: 't' }],
    ],
  );
  assert.deepEqual([...credHelpers], [['gcr.io', 'gcloud']]);
  assert.equal(credsStore, 'pass');
});

test('parseDockerConfig() refuses helper names that are no plain words, and shows no secret', () => {
  for (const value of [
    { credsStore: '../../bin/sh' },
    { credsStore: '-x' },
    { credHelpers: { 'a.test': 'x;y' } },
    { auths: { 'a.test': { auth: 'hunter2' } } },
    { auths: [] },
  ]) {
    assert.throws(
      () => parse(value),
      (reason: unknown) => reason instanceof Error && !reason.message.includes('hunter2'),
    );
  }
});

test('credentialHost() takes the port as it is written', () => {
  assert.equal(credentialHost('https://a.test:443/v2/'), 'a.test:443');
  assert.equal(credentialHost('a.test'), 'a.test');
  assert.equal(credentialHost('[::1]:5000'), '[::1]:5000');
  assert.equal(credentialHost('u@a.test'), undefined);
  assert.equal(credentialHost('a.test/b'), undefined);
});

test('dockerCredentials() knows nothing where there is no file', async () => {
  const source = dockerCredentials({ configPath: '/nonexistent/config.json', helperEnv: {} });
  assert.equal(await source.credentialFor('a.test', call()), undefined);
});

test('dockerCredentials() bounds a helper and hides what it says', async (t) => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'builderd-helper-'));
  const script = async (name: string, body: string): Promise<void> =>
    writeFile(join(dir.path, `docker-credential-${name}`), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  await script('fails', 'echo hunter2; echo hunter2 >&2; exit 3');
  await script('floods', 'while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done');
  await script('none', 'echo "credentials not found in native keychain"; exit 1');
  await script('token', 'printf \'{"Username":"<token>","Secret":"t"}\'');
  await script('env', 'printf \'{"Username":"%s","Secret":"%s"}\' "$HOME" "$BUILDERD_TEST_LEAK."');
  const configPath = join(dir.path, 'config.json');
  const hosts = ['fails', 'floods', 'none', 'token', 'env', 'missing'];
  const credHelpers = Object.fromEntries(hosts.map((name) => [`${name}.test`, name]));
  await writeFile(configPath, JSON.stringify({ credHelpers }));
  process.env['BUILDERD_TEST_LEAK'] = 'leaked';
  t.after(() => delete process.env['BUILDERD_TEST_LEAK']);
  const source = dockerCredentials({
    configPath,
    helperEnv: { PATH: `${dir.path}:/usr/bin:/bin`, HOME: '/h' },
  });
  for (const name of ['fails', 'floods', 'missing']) {
    await assert.rejects(source.credentialFor(`${name}.test`, call()), (reason: unknown) => {
      assert.equal(Object(reason).code, 'source.auth_failed');
      assert.doesNotMatch(String(reason), /hunter2/);
      return true;
    });
  }
  assert.equal(await source.credentialFor('none.test', call()), undefined);
  assert.deepEqual(await source.credentialFor('token.test', call()), {
    kind: 'identity-token',
    token: 't',
  });
  assert.deepEqual(await source.credentialFor('env.test', call()), {
    kind: 'password',
    user: '/h',
    password: '.',
  });
});

const upstream = new URL('https://up.test');

test('parseHostsToml() keeps the order of the file and puts the server last', () => {
  const entries = parseHostsToml(
    `server = "https://up.test"
[host."https://zz.test"]
capabilities = ["pull"]
[host."aa.test:5000"]
ca = ["a.pem", "b.pem"]
client = [["c.pem", "c.key"]]
[host."http://mm.test/prefix"]
override_path = true
skip_verify = true
[host."http://mm.test/prefix".header]
x-team = ["a", "b"]
`,
    'hosts.toml',
    upstream,
  );
  assert.deepEqual(
    entries.map((each) => each.url.href),
    ['https://zz.test/', 'https://aa.test:5000/', 'http://mm.test/prefix', 'https://up.test/'],
  );
  assert.deepEqual([...(entries[0]?.capabilities ?? [])], ['pull']);
  assert.deepEqual(entries[1]?.caFiles, ['a.pem', 'b.pem']);
  assert.deepEqual(entries[1]?.clientFiles, { cert: 'c.pem', key: 'c.key' });
  assert.deepEqual([entries[2]?.skipVerify, entries[2]?.overridePath], [true, true]);
  assert.deepEqual([...(entries[2]?.headers ?? [])], [['x-team', 'a, b']]);
});

test('parseHostsToml() refuses what it would otherwise read wrongly', () => {
  for (const text of [
    'server = 7',
    'sever = "https://x"',
    'server = "ftp://x"',
    'server = "https://u:p@x"',
    '[host.10]\n',
    '[host."https://x"]\nca_file = "x"',
    '[host."https://x"]\nskip_verify = "false"',
    '[host."https://x"]\ncapabilities = ["pul"]',
    '[host."https://x".header]\nhost = "evil"',
    '[host."https://x".header]\nx = "a\\r\\nb"',
    'server = ',
  ]) {
    assert.throws(
      () => parseHostsToml(text, 'hosts.toml', upstream),
      { code: 'config.invalid' },
      text,
    );
  }
});

test('hostsConfig() finds the directory of host and port first, then of the host, then _default', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'builderd-certs-'));
  const put = async (name: string): Promise<void> => {
    await mkdir(join(dir.path, name), { recursive: true });
    await writeFile(
      join(dir.path, name, 'hosts.toml'),
      `server = "https://from-${name.replace(/[^a-z]/g, '')}.test"`,
    );
  };
  const first = async (registry: string): Promise<string | undefined> =>
    (await hostsConfig(dir.path).endpointsFor(registry, call()))[0]?.base.href;
  assert.equal(await first('a.test:5000'), 'https://a.test:5000/v2');
  await put('_default');
  assert.equal(await first('a.test:5000'), 'https://from-default.test/v2');
  await put('a.test');
  assert.equal(await first('a.test:5000'), 'https://from-atest.test/v2');
  assert.equal(await first('b.test'), 'https://from-default.test/v2');
});

const base = async (registry: string): Promise<string | undefined> =>
  (await hostsConfig(undefined).endpointsFor(registry, call()))[0]?.base.href;

test('hostsConfig() speaks plain http with loopback only, and knows Docker Hub', async () => {
  assert.equal(await base('localhost:5000'), 'http://localhost:5000/v2');
  assert.equal(await base('127.0.0.1:443'), 'https://127.0.0.1/v2');
  assert.equal(await base('10.0.0.1:5000'), 'https://10.0.0.1:5000/v2');
  assert.equal(await base('127.evil.test'), 'https://127.evil.test/v2');
  assert.equal(await base('docker.io'), 'https://registry-1.docker.io/v2');
});
