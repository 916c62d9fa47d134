import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runProgram } from '../../contrib/dev/run-program.ts';
import { stringMember } from '../fixtures/api.ts';
import { runCli } from '../fixtures/run-cli.ts';
import { RunningService } from '../fixtures/running-service.ts';
import { groundSettings, makeGround, Operator } from '../fixtures/whole-service.ts';

test('a build asked for with curl is pulled, converted by a worker, downloaded, and equals the command line’s', async () => {
  await using ground = await makeGround();
  await using service = await RunningService.start({ settings: groundSettings(ground) });
  const operator = new Operator(service, await service.operatorToken());
  await operator.tenant('acme');
  const ready = await operator.call('GET', '/health/ready');
  assert.equal(ready.status, 200, await ready.text());

  const id = await operator.build('acme', ground.reference, 'first');
  assert.equal(await operator.build('acme', ground.reference, 'first'), id);
  const build = await operator.ended('acme', id, 60_000);
  assert.equal(build.state, 'completed', JSON.stringify(build));
  assert.deepEqual(build.artifacts.map(({ name }) => name).toSorted(), [
    'build.log',
    'fidelity.json',
    'metadata.json',
    'rootfs.ext4',
  ]);

  const answer = await operator.call('GET', `/v1/builds/${id}/artifacts/rootfs.ext4`, {
    tenant: 'acme',
  });
  const disk = Buffer.from(await answer.arrayBuffer());
  const digest = `sha256:${createHash('sha256').update(disk).digest('hex')}`;
  assert.equal(build.artifacts.find(({ name }) => name === 'rootfs.ext4')?.digest, digest);

  const out = join(ground.dir, 'cli.ext4');
  const cli = await runCli(
    [
      'build',
      ground.reference,
      '--size',
      'min',
      '-o',
      out,
      '--containerd-address',
      ground.containerdAddress,
    ],
    {
      env: { UNKEY_BUILDERD_EGRESS_ALLOW: ground.registryHost },
    },
  );
  assert.equal(cli.code, 0, cli.stderr);
  assert.ok((await readFile(out)).equals(disk), 'the service and the command line disagree');
  await runProgram('e2fsck', ['-fn', out]);

  const log = await operator.call('GET', `/builder.v1.BuilderService/GetBuildLogs/${id}`, {
    tenant: 'acme',
  });
  assert.match(await log.text(), /Stored 3 artifacts/);
  assert.match(await service.metrics(), /builderd_builds_total\{status="completed"\} 1/);
  const scratch = await readdir(join(service.dir, 'scratch'));
  assert.deepEqual(
    scratch.filter((name) => !name.startsWith('executor.lock')),
    [],
  );
  const leases = await runProgram('ctr', [
    '--address',
    ground.containerdAddress,
    'namespaces',
    'list',
    '-q',
  ]);
  for (const namespace of leases.trim().split('\n').filter(Boolean)) {
    const left = await runProgram('ctr', [
      '--address',
      ground.containerdAddress,
      '-n',
      namespace,
      'leases',
      'list',
      '-q',
    ]);
    assert.equal(left.trim(), '', `leases are left in ${namespace}`);
  }
});

test('the service adds the init of its setting to guests', async () => {
  await using ground = await makeGround();
  const init = join(ground.dir, 'init');
  await writeFile(init, 'the program of PID 1');
  const settings = { ...groundSettings(ground), GUEST_INIT: init };
  await using service = await RunningService.start({ settings });
  const operator = new Operator(service, await service.operatorToken());
  await operator.tenant('acme');
  const asked = await operator.call('POST', '/v1/builds', {
    tenant: 'acme',
    json: {
      source: { image: { reference: ground.reference } },
      target: { formats: ['tar'], guestFiles: true },
    },
  });
  const id = stringMember(await asked.json(), 'id');
  const build = await operator.ended('acme', id, 120_000);
  assert.equal(build.state, 'completed', JSON.stringify(build));
  const answer = await operator.call('GET', `/v1/builds/${id}/artifacts/rootfs.tar`, {
    tenant: 'acme',
  });
  const tar = join(ground.dir, 'rootfs.tar');
  await writeFile(tar, Buffer.from(await answer.arrayBuffer()));
  const text = await runProgram('tar', ['-xOf', tar, './usr/bin/metald-init']).catch(() =>
    runProgram('tar', ['-xOf', tar, 'usr/bin/metald-init']),
  );
  assert.equal(text, 'the program of PID 1');
});
