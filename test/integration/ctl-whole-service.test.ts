import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { ctlUser } from '../fixtures/run-ctl.ts';
import { RunningService } from '../fixtures/running-service.ts';
import { groundSettings, makeGround } from '../fixtures/whole-service.ts';

/** A port that the api can have again after it was killed. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

test('from login to a sound disk through the real service, whose api is killed while we follow', async () => {
  await using ground = await makeGround();
  const port = await freePort();
  await using service = await RunningService.start({
    settings: { ...groundSettings(ground), PORT: String(port) },
  });
  await using user = await ctlUser();
  const login = ['login', `http://127.0.0.1:${port}`, '--token-stdin', '--tenant', 'acme'];
  const token = await service.operatorToken();
  const early = await user.run(login, { stdin: token });
  assert.match(early.stderr, /Cannot /, 'the tenant is not there yet');
  const env = { BUILDERCTL_SERVER: `http://127.0.0.1:${port}`, BUILDERCTL_TOKEN: token };
  await user.json(['tenants', 'create', 'acme', '--tier', 'pro'], { env });
  assert.equal((await user.run(login, { stdin: token })).code, 0);
  assert.equal((await user.run(['health'])).code, 0);

  const run = user.start(['build', ground.reference, '--size', 'min+16M', '-o', 'app.ext4']);
  await run.says('is p');
  process.kill(service.rolePid('api'), 'SIGKILL');
  const { code, stdout, stderr } = await run.ended;
  assert.equal(code, 0, stderr);
  assert.match(stderr, /going on as soon as it answers/);
  assert.match(stdout, /is completed in .*\n {2}saved app\.ext4\n/);
  assert.deepEqual((await readdir(user.home)).filter((name) => name.includes('app')).toSorted(), [
    'app.ext4',
    'app.ext4.fidelity.json',
    'app.ext4.metadata.json',
  ]);
  await promisify(execFile)('e2fsck', ['-fn', join(user.home, 'app.ext4')]);

  const { builds } = (await user.json(['builds', 'list'])) as { builds: { id: string }[] };
  const id = builds[0]?.id ?? '';
  const log = await user.run(['logs', id]);
  assert.equal(log.code, 0);
  assert.match(log.stdout, /INFO /);
  const shown = await user.run(['builds', 'get', id]);
  assert.match(shown.stdout, /^STEP +NAME +STARTED +TOOK +OUTCOME\n(?:.* done\n)+/m);
  const status = (await user.json(['health', '--details'])) as { ready: boolean; status: unknown };
  assert.ok(status.ready && typeof status.status === 'object');
});
