import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { test } from 'node:test';
import fc from 'fast-check';
import { SecretText } from '../../src/core/secret-text.ts';
import { parseMasterKeys } from '../../src/store/secrets/master-keys.ts';
import type { SecretPlace } from '../../src/store/secrets/sealed-secrets.ts';
import { keyText, testSecrets } from '../fixtures/test-secrets.ts';

const PLACE: SecretPlace = { table: 'credentials', tenantId: 't1', rowId: 'r1' };

test('a sealed value opens for its place, with any content', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const secrets = testSecrets();
      assert.deepEqual(new Uint8Array(secrets.open(PLACE, secrets.seal(PLACE, bytes))), bytes);
    }),
  );
});

test('a sealed value that was moved to another row, tenant or table does not open', () => {
  const secrets = testSecrets();
  const sealed = secrets.seal(PLACE, 'canary');
  const elsewhere: readonly SecretPlace[] = [
    { ...PLACE, rowId: 'r2' },
    { ...PLACE, tenantId: 't2' },
    { ...PLACE, table: 'webhooks' },
    // The same letters, parted elsewhere.
    { ...PLACE, tenantId: 't1r', rowId: '1' },
  ];
  for (const place of elsewhere) {
    assert.throws(() => secrets.open(place, sealed), { code: 'internal', message: /another row/ });
  }
});

test('a sealed value with any byte changed, or cut short, does not open', () => {
  const secrets = testSecrets();
  const sealed = secrets.seal(PLACE, 'canary');
  for (let at = 0; at < sealed.length; at += 1) {
    const changed = Uint8Array.from(sealed, (byte, index) => (index === at ? byte ^ 1 : byte));
    assert.throws(() => secrets.open(PLACE, changed), { name: 'BuilderdError' });
    assert.throws(() => secrets.open(PLACE, sealed.subarray(0, at)), { name: 'BuilderdError' });
  }
});

test('sealing twice gives different bytes, and none of them shows the value', () => {
  const secrets = testSecrets();
  const one = Buffer.from(secrets.seal(PLACE, 'canary-canary'));
  const two = Buffer.from(secrets.seal(PLACE, 'canary-canary'));
  assert.notDeepEqual(one, two);
  assert.equal(one.includes('canary'), false);
});

test('after a rotation the old key opens and the new one seals', () => {
  const old = testSecrets(1);
  const sealed = old.seal(PLACE, 'canary');
  const both = testSecrets(2, 1);
  assert.equal(both.open(PLACE, sealed).toString(), 'canary');
  assert.equal(both.isOutdated(sealed), true);
  const renewed = both.seal(PLACE, 'canary');
  assert.equal(both.isOutdated(renewed), false);
  assert.throws(() => old.open(PLACE, renewed), { code: 'config.invalid', message: /not loaded/ });
});

test('derived keys differ by purpose and by master key', () => {
  const derived = [
    testSecrets(1).deriveKey('cursors'),
    testSecrets(1).deriveKey('other'),
    testSecrets(2).deriveKey('cursors'),
  ].map((key) => key.toString('hex'));
  assert.equal(new Set(derived).size, 3);
  assert.equal(derived[0]?.length, 64);
});

test('parseMasterKeys() reads hex, base64 and base64url, with comments, newest first', () => {
  const bytes = Buffer.alloc(32, 0xfb);
  const texts = [bytes.toString('hex'), bytes.toString('base64'), bytes.toString('base64url')];
  const ids = texts.map((text) => parseMasterKeys(`# a\n\n${text} # b\n`, 'x').current.id);
  assert.equal(new Set(ids).size, 1);
  const ring = parseMasterKeys(`${keyText(1)}\n${keyText(2)}`, 'x');
  assert.equal(ring.current.id, parseMasterKeys(keyText(1), 'x').current.id);
  assert.deepEqual(
    ring.previous.map((key) => key.id),
    [parseMasterKeys(keyText(2), 'x').current.id],
  );
});

test('parseMasterKeys() refuses anything else and never shows it', () => {
  const bad = ['', '# only a comment', 'hunter2', keyText(1).slice(2), `${keyText(1)}00`];
  for (const text of [...bad, Array.from({ length: 17 }, () => keyText(1)).join('\n')]) {
    assert.throws(
      () => parseMasterKeys(text, 'a test'),
      (fault: Error) =>
        'code' in fault &&
        fault.code === 'config.invalid' &&
        (text === '' || !fault.message.includes(text)),
    );
  }
});

test('a SecretText shows nothing in templates, JSON and inspection', () => {
  const secret = new SecretText('canary');
  const shown = [String(secret), JSON.stringify({ secret }), inspect({ secret }, { depth: 9 })];
  for (const text of shown) assert.equal(text.includes('canary'), false);
  assert.equal(secret.reveal(), 'canary');
});
