import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatPlatform,
  parsePlatform,
  platformDistance,
} from '../../src/runtime/registry/platform.ts';

test('parsePlatform() gives one spelling to every form', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['linux/amd64', 'linux/amd64'],
    ['amd64', 'linux/amd64'],
    ['x86_64', 'linux/amd64'],
    ['Linux/AARCH64', 'linux/arm64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/arm64/8', 'linux/arm64'],
    ['linux/arm', 'linux/arm'],
    ['linux/arm/v7', 'linux/arm'],
    ['linux/arm/6', 'linux/arm/v6'],
    ['linux/armel', 'linux/arm/v6'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
    ['i686', 'linux/386'],
  ];
  for (const [text, want] of cases) assert.equal(formatPlatform(parsePlatform(text)), want, text);
});

test('parsePlatform() refuses what is no platform', () => {
  for (const text of ['', '/', 'linux/', 'linux/amd64/v1/x', 'linux/am d64', 'linux/\n']) {
    assert.throws(() => parsePlatform(text), { code: 'usage.invalid' }, text);
  }
});

const distance = (wanted: string, offered: string): number | undefined =>
  platformDistance(parsePlatform(wanted), parsePlatform(offered));

test('platformDistance() takes older variants, never newer ones or other architectures', () => {
  assert.equal(distance('linux/arm64', 'linux/arm64/v8'), 0);
  assert.equal(distance('linux/arm/v7', 'linux/arm/v6'), 1);
  assert.equal(distance('linux/arm/v7', 'linux/arm/v5'), 2);
  assert.equal(distance('linux/arm/v6', 'linux/arm/v7'), undefined);
  assert.equal(distance('linux/amd64/v3', 'linux/amd64'), 2);
  assert.equal(distance('linux/amd64', 'linux/amd64/v3'), undefined);
  assert.equal(distance('linux/amd64', 'linux/arm64'), undefined);
  assert.equal(distance('linux/amd64', 'windows/amd64'), undefined);
  assert.equal(distance('linux/riscv64/x', 'linux/riscv64'), undefined);
});
