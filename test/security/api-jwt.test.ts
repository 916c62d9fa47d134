import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { test } from 'node:test';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
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
}

const signal = AbortSignal.timeout(60_000);

/** An OpenID issuer on loopback, reached through the guarded dialer. */
async function startIssuer(settings: Partial<JwtIssuer> = {}): Promise<Issuer> {
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  const asked: string[] = [];
  const server: Server = createServer((request, response) => {
    asked.push(request.url ?? '');
    const isKeys = request.url === '/keys';
    const body = isKeys ? made.keys : { issuer: made.issuer, jwks_uri: `${made.issuer}/keys` };
    response.statusCode = body === undefined ? 500 : 200;
    response.end(JSON.stringify(body ?? {}));
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
    async [Symbol.asyncDispose]() {
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

test('identityOf() reads nested and URL-named claims', () => {
  const settings = { issuer: 'https://id', audience: 'x' };
  const tenants = (claim: string, payload: JWTPayload): unknown => {
    const identity = identityOf(payload, { ...settings, tenantClaim: claim });
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
