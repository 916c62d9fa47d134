import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SecretMask } from '../../src/builds/logs/secret-mask.ts';

const SECRET = 'hunter2-canary-Zq8';

test('SecretMask hides a secret wherever it stands, and nothing else', () => {
  const mask = new SecretMask([SECRET]);
  for (const [text, want] of [
    [SECRET, '***'],
    [`user:${SECRET}@host`, 'user:***@host'],
    [`${SECRET}${SECRET}`, '***'],
    [`a ${SECRET} b ${SECRET} c`, 'a *** b *** c'],
    ['nothing here', 'nothing here'],
    ['', ''],
  ] as const) {
    assert.equal(mask.applyOnce(text), want);
  }
});

test('SecretMask hides base64 of a secret inside longer base64, in both alphabets', () => {
  const mask = new SecretMask([SECRET]);
  for (const before of ['', 'u', 'us', 'use', 'user:', 'robot$ci:']) {
    for (const after of ['', 'x', 'yz', '\n', ' and more']) {
      for (const encoding of ['base64', 'base64url'] as const) {
        const encoded = Buffer.from(before + SECRET + after).toString(encoding);
        const shown = mask.applyOnce(`Authorization: Basic ${encoded}`);
        assert.match(shown, /\*\*\*/, `${before}|${after}`);
        const left = Buffer.from(shown.replace(/^.*Basic /, '').replace(/\*\*\*.*$/, ''), encoding);
        assert.ok(!left.toString().includes('hunter'), shown);
      }
    }
  }
});

test('SecretMask hides forms for URLs and JSON, and each line of a key', () => {
  const key =
    '-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\nQyNTUxOQAAACB7canary\n-----END OPENSSH PRIVATE KEY-----\n';
  const mask = new SecretMask(['p@ss "word"/canary', key]);
  assert.equal(
    mask.applyOnce(`https://u:${encodeURIComponent('p@ss "word"/canary')}@h`),
    'https://u:***@h',
  );
  assert.equal(mask.applyOnce(JSON.stringify({ p: 'p@ss "word"/canary' })), '{"p":"***"}');
  assert.equal(mask.applyOnce('QyNTUxOQAAACB7canary'), '***');
  assert.equal(mask.applyOnce('---------- table ----------'), '---------- table ----------');
  assert.ok(!mask.applyOnce(JSON.stringify(key)).includes('canary'));
  assert.equal(mask.applyOnce(Buffer.from(key).toString('base64').slice(0, -2)).slice(0, 3), '***');
});

test('SecretMask shows at most three characters of a secret that is split over texts', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: SECRET.length - 1 }), { minLength: 0, maxLength: 6 }),
      fc.string({ maxLength: 10 }),
      fc.string({ maxLength: 10 }),
      fc.boolean(),
      (cuts, before, after, skipOther) => {
        const mask = new SecretMask([SECRET]);
        const whole = `${before}${SECRET}${after}`;
        const places = [...new Set(cuts)].sort((a, b) => a - b).map((cut) => cut + before.length);
        const bounds = [0, ...places, whole.length];
        const pieces = bounds.slice(1).map((end, index) => whole.slice(bounds[index], end));
        const shown = pieces
          .map((piece) => {
            if (skipOther) mask.apply('other stream', 'something else');
            return mask.apply('builder', piece);
          })
          .join('');
        for (let start = 0; start + 4 <= SECRET.length; start += 1) {
          const part = SECRET.slice(start, start + 4);
          if (!before.includes(part) && !after.includes(part))
            assert.ok(!shown.includes(part), shown);
        }
      },
    ),
  );
});

test('SecretMask remembers what began in text that was skipped', () => {
  const mask = new SecretMask([SECRET]);
  mask.skip('builder', `${'x'.repeat(100_000)}${SECRET.slice(0, 7)}`);
  assert.equal(mask.apply('builder', `${SECRET.slice(7)} rest`), '*** rest');
});

test('SecretMask without usable secrets leaves text as it is', () => {
  const mask = new SecretMask(['', 'abc', ' \n ']);
  assert.equal(mask.apply('builder', 'abc and more'), 'abc and more');
});

test('SecretMask never changes text that holds no part of a secret', () => {
  const mask = new SecretMask(['0123456789abcdef']);
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('g', 'ü', '👍', ' ', '\u0000', 'Q'), { maxLength: 50 }),
      (letters) => {
        const text = letters.join('');
        assert.equal(mask.apply('builder', text), text);
      },
    ),
  );
});
