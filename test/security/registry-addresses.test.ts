import assert from 'node:assert/strict';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isBuilderdError } from '../../src/core/errors.ts';
import { makeCerts, writeHostsToml } from '../fixtures/registry-certs.ts';
import { NOTHING, PullHarness } from '../fixtures/registry-harness.ts';
import { makeImage } from '../fixtures/registry-images.ts';
import { startTestRegistry } from '../fixtures/registry-server.ts';

test('E14 a certificate of an unknown authority is refused, and accepted only where a file says so', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'builderd-e14-'));
  const certs = await makeCerts(dir.path);
  await using registry = await startTestRegistry(certs);
  registry.publish('a/b', 'v1', makeImage());
  const port = registry.host.split(':')[1];
  const options = {
    allow: '127.0.0.0/8',
    certsDir: dir.path,
    resolveName: async () => ['127.0.0.1'],
  };
  const reference = `registry.test:${port}/a/b:v1`;
  const attempt = async (): Promise<void> => {
    await using harness = new PullHarness(options);
    await using image = await harness.pull(reference);
    assert.equal(image.layers.length, 2);
  };
  await assert.rejects(attempt(), { code: 'source.unreachable', message: /certificate/ });
  assert.deepEqual(registry.seen, []);
  const server = `server = "https://registry.test:${port}"\n`;
  await writeHostsToml(dir.path, `registry.test:${port}`, `${server}ca = "${certs.caFile}"\n`);
  await attempt();
  await writeHostsToml(dir.path, `registry.test:${port}`, `${server}skip_verify = true\n`);
  await attempt();
  // The same certificate under a name that it does not carry.
  await writeHostsToml(
    dir.path,
    `other.test:${port}`,
    `server = "https://other.test:${port}"\nca = "${certs.caFile}"\n`,
  );
  await using harness = new PullHarness(options);
  await assert.rejects(harness.pull(`other.test:${port}/a/b:v1`), {
    code: 'source.unreachable',
    message: /ALTNAME/,
  });
});

test('E14 plain http is refused for every host that is not loopback', async () => {
  await using registry = await startTestRegistry();
  await using harness = new PullHarness({
    allow: '127.0.0.0/8',
    resolveName: async () => ['127.0.0.1'],
  });
  await assert.rejects(harness.pull(`registry.test:${registry.host.split(':')[1]}/a/b`), {
    code: 'source.unreachable',
  });
  assert.deepEqual(registry.seen, []);
});

for (const host of [
  '127.0.0.1:5000',
  '127.1:5000',
  '0x7f.1:5000',
  '0177.0.0.1:5000',
  '2130706433:5000',
  '0.0.0.0:5000',
  'localhost:5000',
  'LOCALHOST.:5000',
  '[::1]:5000',
  '[::ffff:127.0.0.1]:5000',
  '[0:0:0:0:0:ffff:7f00:1]:5000',
  '169.254.169.254',
  '100.100.100.200',
  '168.63.129.16',
  '10.0.0.1',
  '192.168.0.1:5000',
  '[fe80::1]:5000',
  '[fd00::1]:5000',
  '[64:ff9b::7f00:1]:5000',
  '[2002:7f00:1::]:5000',
]) {
  test(`E20 the registry ${host} is source.denied_address whatever its spelling`, async () => {
    await using harness = new PullHarness({ allow: '' });
    await assert.rejects(harness.pull(`${host}/a/b`), { code: 'source.denied_address' });
    assert.deepEqual(harness.leftovers(), NOTHING);
  });
}

test('E23 a name with 500 addresses, all private but one: only the checked one is dialled', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'builderd-e23-'));
  await using registry = await startTestRegistry();
  registry.publish('a/b', 'v1', makeImage());
  const port = registry.host.split(':')[1];
  await writeHostsToml(dir.path, `many.test:${port}`, `server = "http://many.test:${port}"\n`);
  const addresses = Array.from({ length: 500 }, (_, at) => `10.0.${at >> 8}.${at & 255}`);
  addresses[250] = '127.0.0.1';
  await using harness = new PullHarness({
    // Stands for the one public address: the only one that the policy lets through.
    allow: registry.host,
    certsDir: dir.path,
    resolveName: async () => addresses,
  });
  await using image = await harness.pull(`many.test:${port}/a/b:v1`);
  assert.equal(image.layers.length, 2);
});

test('E23 a name with private addresses only is refused without naming them', async () => {
  await using harness = new PullHarness({
    allow: '',
    resolveName: async () => ['10.20.30.40', '127.0.0.1'],
  });
  await assert.rejects(harness.pull('inner.test/a/b'), (reason: unknown) => {
    assert.ok(isBuilderdError(reason, 'source.denied_address'));
    assert.doesNotMatch(reason.message, /10\.20/);
    return true;
  });
});
