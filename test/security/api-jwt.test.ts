import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { test } from 'node:test';
import { decodeJwt, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import { createJwtVerifier, identityOf, type JwtIssuer } from '../../src/api/auth/jwt.ts';
import type { VerifyJwt } from '../../src/api/auth/bearer.ts';
import { parseEgressAllow } from '../../src/egress/allow-list.ts';
import { createDialer } from '../../src/egress/dialer.ts';
import { startTestApi } from '../fixtures/api.ts';

interface Issuer extends AsyncDisposable {
  readonly issuer: string;
  readonly asked: string[];
  readonly verify: VerifyJwt;
  clock: number;
  /** What the key set answers; undefined: 500. */
  keys: object | undefined;
  sign(
    claims: JWTPayload,
    options?: { readonly kid?: string; readonly audience?: string; readonly expires?: string },
  ): Promise<string>;
  readonly privateKey: CryptoKey;
  /** From here on it does not answer, until `release`. */
  hold(): void;
  release(): void;
}

const signal = AbortSignal.timeout(60_000);

/** An OpenID issuer on loopback, reached through the guarded dialer. */
async function startIssuer(settings: Partial<JwtIssuer> = {}): Promise<Issuer> {
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  const asked: string[] = [];
  let gate = Promise.withResolvers<void>();
  gate.resolve();
  const server: Server = createServer((request, response) => {
    asked.push(request.url ?? '');
    gate.promise.then(() => {
      const isKeys = request.url === '/keys';
      const body = isKeys ? made.keys : { issuer: made.issuer, jwks_uri: `${made.issuer}/keys` };
      response.statusCode = body === undefined ? 500 : 200;
      response.end(JSON.stringify(body ?? {}));
    }, assert.ifError);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const issuer = `http://127.0.0.1:${address.port}`;
  const dialer = createDialer({ allow: parseEgressAllow([`127.0.0.1:${address.port}`].join()) });
  const made: Issuer = {
    issuer,
    asked,
    privateKey,
    clock: 0,
    keys: { keys: [{ ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256' }] },
    verify: createJwtVerifier([{ issuer, audience: 'builderd', ...settings }], {
      dialer,
      nowMs: () => made.clock,
    }),
    sign: (claims, { kid = 'k1', audience = 'builderd', expires = '5m' } = {}) =>
      new SignJWT(claims)
        .setProtectedHeader({ alg: 'ES256', kid })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject('user-1')
        .setExpirationTime(expires)
        .sign(privateKey),
    hold: () => {
      gate = Promise.withResolvers();
    },
    release: () => gate.resolve(),
    async [Symbol.asyncDispose]() {
      gate.resolve();
      await dialer[Symbol.asyncDispose]();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return made;
}

test('a token of a configured issuer is its tenants; its keys are found by discovery and kept', async () => {
  await using issuer = await startIssuer({ readerRoles: ['viewer'], operatorRoles: ['admin'] });
  const token = await issuer.sign({ tenant: ['acme', 'bad name', 'other'] });
  const identity = await issuer.verify(token, { signal });
  assert.deepEqual(identity, {
    actor: `jwt:${issuer.issuer}/user-1`,
    role: 'tenant',
    tenants: new Set(['acme', 'other']),
    expiresAt: (decodeJwt(token).exp ?? 0) * 1000,
  });
  await issuer.verify(await issuer.sign({ tenant: 'acme', role: 'viewer' }), { signal });
  assert.deepEqual(issuer.asked, ['/.well-known/openid-configuration', '/keys']);
});

test('tokens that prove nothing are nobody: G25', async () => {
  await using issuer = await startIssuer();
  await using other = await startIssuer();
  const b64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = {
    iss: issuer.issuer,
    aud: 'builderd',
    sub: 'x',
    tenant: 'acme',
    exp: 4_000_000_000,
  };
  const { exp: _expiry, ...timeless } = claims;
  const secret = new TextEncoder().encode('k'.repeat(32));
  const good = await issuer.sign({ tenant: 'acme' });
  const forged: [name: string, token: string][] = [
    ['alg none', `${b64({ alg: 'none' })}.${b64(claims)}.`],
    ['alg none with a signature', `${b64({ alg: 'none', kid: 'k1' })}.${b64(claims)}.AAAA`],
    [
      'HMAC under a guessed secret',
      await new SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid: 'k1' }).sign(secret),
    ],
    ['another audience', await issuer.sign({ tenant: 'acme' }, { audience: 'other' })],
    ['expired', await issuer.sign({ tenant: 'acme' }, { expires: '-5m' })],
    ['another issuer, not configured', await other.sign({ tenant: 'acme' })],
    [
      'our issuer, signed by another',
      await new SignJWT(claims)
        .setProtectedHeader({ alg: 'ES256', kid: 'k1' })
        .sign(other.privateKey),
    ],
    ['changed claims', `${good.split('.')[0]}.${b64(claims)}.${good.split('.')[2]}`],
    [
      'no expiry',
      await new SignJWT(timeless)
        .setProtectedHeader({ alg: 'ES256', kid: 'k1' })
        .sign(issuer.privateKey),
    ],
    [
      'an unknown critical header',
      await new SignJWT(claims)
        .setProtectedHeader({ alg: 'ES256', kid: 'k1', crit: ['x'], x: 1 })
        .sign(issuer.privateKey, { crit: { x: true } }),
    ],
    ['no tenant', await issuer.sign({})],
    ['a tenant of the wrong type', await issuer.sign({ tenant: { acme: true } })],
    ['an operator role that is not configured', await issuer.sign({ role: 'operator' })],
    ['not JSON', 'AAAA.AAAA.AAAA'],
  ];
  for (const [name, token] of forged) {
    assert.equal(await issuer.verify(token, { signal }), undefined, name);
  }
});

test('invented key ids do not make us ask the issuer again and again', async () => {
  await using issuer = await startIssuer();
  for (let n = 0; n < 20; n += 1) {
    assert.equal(
      await issuer.verify(await issuer.sign({ tenant: 'a1' }, { kid: `k${n + 5}` }), { signal }),
      undefined,
    );
  }
  assert.equal(issuer.asked.filter((url) => url === '/keys').length, 1);
  issuer.clock += 31_000;
  await issuer.verify(await issuer.sign({ tenant: 'a1' }, { kid: 'k99' }), { signal });
  assert.equal(issuer.asked.filter((url) => url === '/keys').length, 2);
});

test('an issuer that is away is a typed fault at first, and no harm once its keys are known', async () => {
  await using issuer = await startIssuer();
  const { keys } = issuer;
  issuer.keys = undefined;
  const token = await issuer.sign({ tenant: 'acme' });
  await assert.rejects(issuer.verify(token, { signal }), { code: 'service.unavailable' });
  issuer.keys = keys;
  issuer.clock += 2000;
  assert.ok(await issuer.verify(token, { signal }));
  issuer.keys = undefined;
  issuer.clock += 3_600_000;
  assert.ok(await issuer.verify(token, { signal }));
});

test('keys of an issuer that is away for more than a day are no longer believed', async () => {
  await using issuer = await startIssuer();
  const token = await issuer.sign({ tenant: 'acme' });
  assert.ok(await issuer.verify(token, { signal }));
  const { keys } = issuer;
  issuer.keys = undefined;
  issuer.clock += 23 * 3_600_000;
  assert.ok(await issuer.verify(token, { signal }));
  issuer.clock += 2 * 3_600_000;
  await assert.rejects(issuer.verify(token, { signal }), { code: 'service.unavailable' });
  issuer.keys = keys;
  issuer.clock += 2000;
  assert.ok(await issuer.verify(token, { signal }));
});

test('an issuer that fails is not asked by every request', async () => {
  await using issuer = await startIssuer({});
  issuer.keys = undefined;
  const token = await issuer.sign({ tenant: 'acme' });
  for (let n = 0; n < 10; n += 1) {
    await assert.rejects(issuer.verify(token, { signal }), { code: 'service.unavailable' });
  }
  assert.equal(issuer.asked.filter((url) => url === '/keys').length, 1);
});

test('a caller that goes away takes the keys of the others not with it', async () => {
  await using issuer = await startIssuer();
  issuer.hold();
  const token = await issuer.sign({ tenant: 'acme' });
  const leaving = new AbortController();
  const left = issuer.verify(token, { signal: leaving.signal });
  const stays = issuer.verify(token, { signal });
  while (issuer.asked.length === 0) await new Promise(setImmediate);
  // Older than any pause between two loads: this one still runs, and is joined.
  issuer.clock += 60_000;
  const late = issuer.verify(token, { signal });
  leaving.abort(new Error('left'));
  await assert.rejects(left, /left/);
  issuer.release();
  assert.ok(await stays);
  assert.ok(await late);
  assert.equal(issuer.asked.filter((url) => url === '/keys').length, 1);
});

test('tokens with an unknown key wait for the load that runs already', async () => {
  await using issuer = await startIssuer();
  assert.ok(await issuer.verify(await issuer.sign({ tenant: 'acme' }), { signal }));
  const { keys } = issuer;
  assert.ok(keys !== undefined && 'keys' in keys && Array.isArray(keys.keys));
  const rotated: unknown[] = keys.keys.map((key: object) => ({ ...key, kid: 'k2' }));
  issuer.keys = { keys: rotated };
  issuer.clock += 31_000;
  issuer.hold();
  const token = await issuer.sign({ tenant: 'acme' }, { kid: 'k2' });
  const first = issuer.verify(token, { signal });
  while (issuer.asked.length < 3) await new Promise(setImmediate);
  const second = issuer.verify(token, { signal });
  issuer.release();
  assert.ok(await first);
  assert.ok(await second);
});

test('keys are only fetched from addresses that the operator allows', async () => {
  await using issuer = await startIssuer();
  await using guarded = createDialer({ allow: parseEgressAllow('') });
  const verify = createJwtVerifier([{ issuer: issuer.issuer, audience: 'builderd' }], {
    dialer: guarded,
    nowMs: () => 0,
  });
  await assert.rejects(verify(await issuer.sign({ tenant: 'acme' }), { signal }), {
    code: 'service.unavailable',
  });
  assert.deepEqual(issuer.asked, []);
});

test('a subject that cannot be an actor is nobody, and such an issuer stops the start', () => {
  const settings = { issuer: 'https://id', audience: 'x' };
  const subjects: [name: string, sub: string, isKnown: boolean][] = [
    ['256 characters', 's'.repeat(256), true],
    ['other scripts', 'åsa|日本', true],
    ['empty', '', false],
    ['257 characters', 's'.repeat(257), false],
    ['a line end', 'a\nb', false],
    ['an escape sequence', '\u001b[2J', false],
    ['NUL', 'a\0', false],
    ['a C1 control', 'a\u009b', false],
    ['half a character', 'a\ud800', false],
  ];
  for (const [name, sub, isKnown] of subjects) {
    const identity = identityOf({ sub, tenant: 'acme' }, settings);
    assert.equal(identity?.actor, isKnown ? `jwt:https://id/${sub}` : undefined, name);
    const operator = identityOf({ sub, role: 'admin' }, { ...settings, operatorRoles: ['admin'] });
    assert.equal(operator?.role, isKnown ? 'operator' : undefined, name);
  }
  const dialer = createDialer({ allow: parseEgressAllow('') });
  for (const issuer of ['https://id/\u001b[2J', `https://id/${'x'.repeat(300)}`]) {
    assert.throws(
      () => createJwtVerifier([{ issuer, audience: 'x' }], { dialer, nowMs: () => 0 }),
      { code: 'config.invalid' },
    );
  }
});

test('identityOf() reads nested and URL-named claims', () => {
  const settings = { issuer: 'https://id', audience: 'x' };
  const tenants = (claim: string, payload: JWTPayload): unknown => {
    const identity = identityOf({ sub: 'user-1', ...payload }, { ...settings, tenantClaim: claim });
    return identity === undefined
      ? undefined
      : identity.tenants === 'all'
        ? 'all'
        : [...identity.tenants];
  };
  assert.deepEqual(tenants('org.tenant', { org: { tenant: 'acme' } }), ['acme']);
  assert.deepEqual(tenants('https://x.example/t', { 'https://x.example/t': 'acme' }), ['acme']);
  assert.equal(tenants('constructor.name', {}), undefined);
  assert.equal(tenants('__proto__.x', {}), undefined);
});

test('a JWT makes the tenant that it names where that is wanted, and an operator never by a slip', async () => {
  for (const createMissing of [false, true]) {
    await using issuer = await startIssuer({ operatorRoles: ['admin'] });
    await using api = await startTestApi({
      createMissing,
      auth: { mode: 'tokens', verifyJwt: issuer.verify },
    });
    const admin = await issuer.sign({ tenant: 'acme', role: 'admin' });
    for (const token of [admin, api.operator]) {
      const answer = await api.fetch('/v1/usage', { token, headers: { 'x-tenant-id': 'acmee' } });
      assert.equal(answer.status, 404);
    }
    const own = await api.fetch('/v1/usage', { token: await issuer.sign({ tenant: 'acme' }) });
    assert.equal(own.status, createMissing ? 200 : 404);
    const list = await (await api.fetch('/v1/tenants', { token: api.operator })).text();
    assert.equal(list.includes('"acme"'), createMissing);
    assert.ok(!list.includes('acmee'));
  }
});

test('a token that a JWT makes ends with it', async () => {
  await using issuer = await startIssuer();
  await using api = await startTestApi({ auth: { mode: 'tokens', verifyJwt: issuer.verify } });
  await api.tenant('acme');
  const token = await issuer.sign({ tenant: 'acme' });
  const made = await api.fetch('/v1/tokens', {
    method: 'POST',
    token,
    json: { role: 'tenant', name: 'ci', ttlSeconds: 86_400 },
  });
  const body: unknown = await made.json();
  const view: unknown = Reflect.get(Object(body), 'token');
  assert.equal(
    Date.parse(String(Reflect.get(Object(view), 'expiresAt'))),
    (decodeJwt(token).exp ?? 0) * 1000,
  );
  assert.equal(Reflect.get(Object(view), 'createdBy'), `jwt:${issuer.issuer}/user-1`);
});

test('a JWT opens its tenant over HTTP, and no other', async () => {
  await using issuer = await startIssuer();
  await using api = await startTestApi({ auth: { mode: 'tokens', verifyJwt: issuer.verify } });
  await api.tenant('acme');
  await api.tenant('other');
  const token = await issuer.sign({ tenant: 'acme' });
  assert.equal((await api.fetch('/v1/builds', { token })).status, 200);
  assert.equal(
    (await api.fetch('/v1/builds', { token, headers: { 'x-tenant-id': 'other' } })).status,
    403,
  );
  assert.equal((await api.fetch('/v1/builds', { token: `${token}x` })).status, 401);
});
