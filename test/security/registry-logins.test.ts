import assert from 'node:assert/strict';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  BASIC,
  expectPulled,
  expectRefused,
  SECRET,
  setUpAttack,
} from '../fixtures/registry-attack.ts';
import { makeCerts, writeHostsToml } from '../fixtures/registry-certs.ts';
import { PullHarness } from '../fixtures/registry-harness.ts';
import { json, makeImage } from '../fixtures/registry-images.ts';
import { type Intercept, startTestRegistry } from '../fixtures/registry-server.ts';

const bearerFrom =
  (realm: string): Intercept =>
  (request, response) => {
    if (request.headers.authorization === 'Bearer good') return false;
    response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="s"` });
    response.end();
    return true;
  };

const givesToken =
  (token: string): Intercept =>
  (_request, response) => {
    response.end(JSON.stringify({ token }));
    return true;
  };

test('E1 a realm at the metadata address is refused before anything is sent', async () => {
  await using it = await setUpAttack(() => bearerFrom('http://169.254.169.254/latest/token'));
  await expectRefused(it, 'source.denied_address');
});

test('E1 a realm on another loopback port is refused unless it is allowed', async () => {
  await using it = await setUpAttack((_, other) => bearerFrom(`http://${other.host}/token`), {
    allow: '',
  });
  await expectRefused(it, 'source.denied_address');
  assert.deepEqual(it.other.seen, []);
});

test('E1 a token server that redirects is not followed', async () => {
  await using it = await setUpAttack((_, other) => bearerFrom(`http://${other.host}/token`));
  it.other.intercept((_request, response) => {
    response.writeHead(302, { location: `http://${it.other.host}/stolen` });
    response.end();
    return true;
  });
  await expectRefused(it, 'source.auth_failed');
  assert.deepEqual(
    it.other.seen.map((each) => each.path),
    ['/token'],
  );
});

test('E1 an https registry with a plain http realm is refused', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'builderd-e1-'));
  const certs = await makeCerts(dir.path);
  await using registry = await startTestRegistry(certs);
  await using other = await startTestRegistry();
  await writeHostsToml(
    dir.path,
    registry.host,
    `server = "https://${registry.host}"\nca = "${certs.caFile}"\n`,
  );
  registry.intercept(bearerFrom(`http://${other.host}/token`));
  await using harness = new PullHarness({ allow: '127.0.0.0/8', certsDir: dir.path });
  await assert.rejects(harness.pull(`${registry.host}/a/b`), {
    code: 'source.auth_failed',
    message: /not https/,
  });
  assert.deepEqual(other.seen, []);
});

test('E2 a realm on an unrelated host gets no credentials, and the error says so', async () => {
  await using it = await setUpAttack((_, other) => bearerFrom(`http://${other.host}/token`));
  it.other.intercept((request, response) => {
    response.writeHead(request.headers.authorization === undefined ? 401 : 200);
    response.end('{"token":"good"}');
    return true;
  });
  await expectRefused(it, 'source.auth_failed', /not a trusted realm/);
  assert.deepEqual(
    it.other.seen.map((each) => each.headers.authorization),
    [undefined],
  );
});

test('E2 a realm that the operator trusts gets them', async () => {
  await using other = await startTestRegistry();
  other.intercept((request, response) => {
    response.writeHead(request.headers.authorization === BASIC ? 200 : 401);
    response.end('{"token":"good"}');
    return true;
  });
  await using it = await setUpAttack(() => bearerFrom(`http://${other.host}/token`), {
    allow: '127.0.0.0/8',
    trustedRealms: [other.host],
  });
  await expectPulled(it);
  assert.equal(other.seen.length, 1);
  assert.equal(other.seen[0]?.query.get('scope'), 'repository:a/b:pull');
});

test('E10 a token answer above 64 KiB is refused while it is read', async () => {
  await using it = await setUpAttack((_, other) => bearerFrom(`http://${other.host}/token`));
  let sent = 0;
  it.other.intercept((_request, response) => {
    const timer = setInterval(() => {
      sent += 16_384;
      response.write(' '.repeat(16_384));
    }, 1);
    response.on('close', () => clearInterval(timer));
    return true;
  });
  await expectRefused(it, 'source.too_large');
  assert.ok(sent < 4 * 1024 * 1024);
});

for (const token of ['a\r\nx-evil: 1', 'a b', 'ä', '', 'x'.repeat(20_000)]) {
  test(`E10 a token such as ${JSON.stringify(token.slice(0, 16))} is never used as a header`, async () => {
    await using it = await setUpAttack((_, other) => bearerFrom(`http://${other.host}/token`));
    it.other.intercept(givesToken(token));
    await expectRefused(it, 'source.auth_failed', /no usable token/);
    assert.equal(it.registry.seen.length, 1);
  });
}

test('E16 a login of one acquisition is not there for the next', async () => {
  const credentials: Record<string, { user: string; password: string }> = {};
  await using registry = await startTestRegistry();
  registry.publish('a/b', 'v1', makeImage());
  registry.intercept((request, response) => {
    if (request.headers.authorization === BASIC) return false;
    response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' });
    response.end();
    return true;
  });
  credentials[registry.host] = { user: 'u', password: SECRET };
  await using harness = new PullHarness({ allow: registry.host, credentials });
  const reference = `${registry.host}/a/b:v1`;
  await (await harness.pull(reference))[Symbol.asyncDispose]();
  harness.credentials.delete(registry.host);
  await assert.rejects(harness.pull(reference, { pullPolicy: 'always' }), {
    code: 'source.auth_failed',
  });
});

test('E17 credentials for the bare host are not sent to its port, nor to a look-alike', async () => {
  const seen: (string | undefined)[] = [];
  await using it = await setUpAttack(
    () => (request, response) => {
      seen.push(request.headers.authorization);
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' });
      response.end();
      return true;
    },
    {
      credentials: {
        '127.0.0.1': { user: 'u', password: SECRET },
        '127.0.0.1:1': { user: 'u', password: SECRET },
      },
    },
  );
  await expectRefused(it, 'source.auth_failed', /no credentials/);
  assert.deepEqual(seen, [undefined]);
});

test('E18 an error body that echoes credentials is never shown', async () => {
  await using it = await setUpAttack(() => (request, response) => {
    if (request.headers.authorization === undefined) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' });
    } else response.writeHead(403);
    response.end(
      json({
        errors: [{ code: 'DENIED', message: `you sent ${SECRET} ${BASIC}`, detail: SECRET }],
      }),
    );
    return true;
  });
  await expectRefused(it, 'source.auth_failed', /403 DENIED$/);
});

test('E17 an identity token goes by POST to the registry own token server, and only there', async () => {
  const forms: URLSearchParams[] = [];
  const tokenServer: Intercept = async (request, response) => {
    if (request.path !== '/token') return bearerFrom(`http://${host}/token`)(request, response);
    forms.push(new URLSearchParams(await request.text()));
    response.writeHead(request.method === 'POST' ? 200 : 401);
    response.end('{"access_token":"good","expires_in":300}');
    return true;
  };
  let host = '';
  await using it = await setUpAttack(
    (registry) => {
      ({ host } = registry);
      return tokenServer;
    },
    {
      credentialSource: { credentialFor: async () => ({ kind: 'identity-token', token: SECRET }) },
    },
  );
  await expectPulled(it);
  assert.deepEqual(
    forms.map((form) => [form.get('grant_type'), form.get('refresh_token'), form.get('scope')]),
    [['refresh_token', SECRET, 'repository:a/b:pull']],
  );
  host = it.other.host;
  it.other.intercept(tokenServer);
  await using stranger = await setUpAttack(() => bearerFrom(`http://${host}/token`), {
    allow: '127.0.0.0/8',
    credentialSource: { credentialFor: async () => ({ kind: 'identity-token', token: SECRET }) },
  });
  await expectRefused(stranger, 'source.auth_failed', /not a trusted realm/);
  assert.equal(forms.at(-1)?.get('refresh_token'), null);
});
