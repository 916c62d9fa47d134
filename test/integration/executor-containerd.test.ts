import assert from 'node:assert/strict';
import { mkdtempDisposable, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pushLayout } from '../../contrib/dev/push-layout.ts';
import { startPrivateContainerd } from '../../contrib/dev/private-containerd.ts';
import { startRegistry } from '../../contrib/dev/loopback-registry.ts';
import { errnoOf } from '../../src/core/errors.ts';
import { openTestSqlite } from '../fixtures/databases.ts';
import { startTestContainerd, type TestContainerd } from '../fixtures/containerd.ts';
import { NAMESPACE_PREFIX, openRealParts } from '../fixtures/executor-containerd.ts';
import { spawnExecutor } from '../fixtures/executor-process.ts';
import { eventually, openExecutorService } from '../fixtures/executor-service.ts';
import { type FaultProxy, startFaultProxy } from '../fixtures/fault-proxy.ts';
import { writeImageLayout } from '../fixtures/images/image-layout.ts';
import { tarOf } from '../fixtures/small-tar.ts';

const never = AbortSignal.timeout(10 * 60_000);

describe('executor on containerd', () => {
  const own = new AsyncDisposableStack();
  let containerd: TestContainerd;
  let registry = '';
  let dir = '';

  before(async () => {
    const temp = await mkdtempDisposable(path.join(tmpdir(), 'bd-exec-'));
    own.defer(() => temp.remove());
    dir = temp.path;
    containerd = own.use(await startTestContainerd());
    ({ host: registry } = own.use(await startRegistry({ dir: path.join(dir, 'registry') })));
  });
  after(() => own.disposeAsync());

  /** An image whose layers hold the given texts, pushed under a name of its own. */
  async function publish(repository: string, layers: readonly Buffer[]): Promise<string> {
    const layoutDir = path.join(dir, repository);
    await writeImageLayout(layoutDir, `${registry}/${repository}:1`, {
      layers: layers.map((content, index) => ({
        tar: tarOf([{ name: `file-${index}`, content }]),
      })),
      config: { Cmd: ['/file-0'] },
    });
    await pushLayout({ layoutDir, registry, repository, tag: '1' });
    return `${registry}/${repository}:1`;
  }

  async function leasesIn(tenantId: string): Promise<number> {
    const call = { namespace: `${NAMESPACE_PREFIX}-${tenantId}`, signal: never };
    return (await containerd.client.leases.list([], call)).length;
  }

  async function ingestsIn(tenantId: string): Promise<number> {
    const call = { namespace: `${NAMESPACE_PREFIX}-${tenantId}`, signal: never };
    return (await containerd.client.content.ingests(call)).length;
  }

  test('ten builds of three tenants complete, each in the namespace of its tenant', async () => {
    await using service = await openExecutorService(openTestSqlite);
    await using real = openRealParts(containerd.daemon.address, service.directory);
    const references = await Promise.all(
      [1, 2].map((n) => publish(`ten-${n}`, [Buffer.from('same'), Buffer.from(`app ${n}`)])),
    );
    const tenants = await Promise.all(
      ['one', 'two', 'three'].map((name) => service.tenant(name, { maxConcurrentBuilds: 2 })),
    );
    await using running = service.start({ ...real.changes, slots: 4 }, { images: real.images });
    const ids = await Promise.all(
      Array.from({ length: 10 }, (_, n) => {
        const tenant = tenants[n % 3];
        const reference = references[n % 2];
        assert.ok(tenant !== undefined && reference !== undefined);
        return service.submit(tenant, { reference, target: { formats: ['ext4', 'tar'] } });
      }),
    );
    for (const id of ids) {
      const build = await service.until(id);
      assert.equal(build.state, 'completed', build.errorMessage ?? '');
    }
    await running.idle();
    assert.deepEqual(await service.broken({ images: real.images }), []);
    for (const tenant of tenants) assert.equal(await leasesIn(tenant.id), 0);
  });

  test('a layer that another tenant has is used only when the registry gives it to this one too', async () => {
    await using service = await openExecutorService(openTestSqlite);
    await using real = openRealParts(containerd.daemon.address, service.directory);
    await using proxy: FaultProxy = await startFaultProxy(registry);
    const secret = await publish('secret', [Buffer.from('a layer that not everybody may have')]);
    const [owner, thief] = [await service.tenant('owner'), await service.tenant('thief')];
    await using running = service.start(real.changes, { images: real.images });
    assert.equal(
      (await service.until(await service.submit(owner, { reference: secret }))).state,
      'completed',
    );
    // A registry that knows the manifest and not the layer, as one of the thief's own would.
    const manifest: unknown = JSON.parse(
      await readFile(path.join(dir, 'secret/index.json'), 'utf8'),
    );
    assert.ok(typeof manifest === 'object');
    const layer = (await layersOf('secret'))[0];
    assert.ok(layer !== undefined);
    proxy.plan((seen) => (seen.includes(layer) ? { kind: 'status', status: 404 } : undefined));
    const reference = `${proxy.host}/secret:1`;
    const build = await service.until(await service.submit(thief, { reference }));
    assert.deepEqual([build.state, build.errorCode], ['failed', 'source.not_found']);
    proxy.plan(() => undefined);
    const allowed = await service.until(await service.submit(thief, { reference }));
    assert.equal(allowed.state, 'completed', allowed.errorMessage ?? '');
    await running.idle();
    assert.deepEqual(await service.broken({ images: real.images }), []);
  });

  async function layersOf(repository: string): Promise<string[]> {
    const blobs = path.join(dir, repository, 'blobs/sha256');
    const found: string[] = [];
    for (const name of await readdir(blobs)) {
      const text = await readFile(path.join(blobs, name), 'latin1');
      if (!text.startsWith('{')) found.push(name);
    }
    return found;
  }

  test('an image that no build used for long is forgotten, one in use is not', async () => {
    await using service = await openExecutorService(openTestSqlite);
    await using real = openRealParts(containerd.daemon.address, service.directory);
    const reference = await publish('unused', [Buffer.from('seldom wanted')]);
    const tenant = await service.tenant('seldom');
    await using running = service.start(real.changes, { images: real.images });
    await service.until(await service.submit(tenant, { reference }));
    await running.idle();
    const call = { namespace: `${NAMESPACE_PREFIX}-${tenant.id}`, signal: never };
    const [pulled] = await containerd.client.images.listUse(call);
    await service.until(await service.submit(tenant, { reference, pullPolicy: 'never' }));
    const [used] = await containerd.client.images.listUse(call);
    assert.ok(pulled?.usedAt !== undefined && used?.usedAt !== undefined);
    assert.ok(used.usedAt > pulled.usedAt, 'a build from the store counts as use');
    await real.images.forgetUnused({ unusedMs: 3_600_000, signal: never });
    assert.equal((await containerd.client.images.listUse(call)).length, 1);
    await real.images.forgetUnused({ unusedMs: -1000, signal: never });
    assert.deepEqual(await containerd.client.images.listUse(call), []);
  });

  test('H16: kill -9 in the middle of a blob leaves no lease, no ingest and costs one attempt', async () => {
    await using service = await openExecutorService(openTestSqlite);
    await using real = openRealParts(containerd.daemon.address, service.directory);
    await using proxy = await startFaultProxy(registry);
    await publish('half', [
      Buffer.from(Array.from({ length: 3_000_000 }, (_, n) => (n * n * 7) % 251)),
    ]);
    const tenant = await service.tenant('acme');
    const id = await service.submit(tenant, { reference: `${proxy.host}/half:1` });
    const stalled = Promise.withResolvers<void>();
    const [layer] = await layersOf('half');
    assert.ok(layer !== undefined);
    proxy.plan((seen) =>
      seen.includes(layer)
        ? { kind: 'stall', afterBytes: 50_000, onStall: () => stalled.resolve() }
        : undefined,
    );
    const { config, directory } = service;
    await using victim = spawnExecutor({
      config,
      directory,
      failpoints: '',
      containerd: containerd.daemon.address,
    });
    await stalled.promise;
    assert.equal(await leasesIn(tenant.id), 1);
    victim.child.kill('SIGKILL');
    await victim.ended;
    proxy.plan(() => undefined);
    await using running = service.start(real.changes, { images: real.images });
    const build = await service.until(id);
    assert.deepEqual([build.state, build.attempt], ['completed', 2], build.errorMessage ?? '');
    await running.idle();
    await eventually(
      'the lease of the dead is gone',
      async () => (await leasesIn(tenant.id)) === 0,
    );
    assert.equal(await ingestsIn(tenant.id), 0);
    assert.deepEqual(await service.broken({ images: real.images }), []);
  });

  test('kill -9 while a worker converts ends the worker with its executor', async () => {
    await using service = await openExecutorService(openTestSqlite);
    const reference = await publish('worker', [Buffer.alloc(200_000_000, 'x')]);
    const tenant = await service.tenant('acme');
    const id = await service.submit(tenant, { reference });
    const { config, directory } = service;
    const { address } = containerd.daemon;
    await using victim = spawnExecutor({ config, directory, failpoints: '', containerd: address });
    let workers: readonly string[] = [];
    await eventually('a worker runs', async () => {
      workers = await childrenOf(victim.child.pid ?? 0);
      return workers.length > 0;
    });
    victim.child.kill('SIGKILL');
    await victim.ended;
    await eventually('the worker is gone', async () => {
      const alive = await readdir('/proc');
      return workers.every((pid) => !alive.includes(pid));
    });
    await using real = openRealParts(address, service.directory);
    await using running = service.start(real.changes, { images: real.images });
    const build = await service.until(id);
    assert.equal(build.state, 'completed', build.errorMessage ?? '');
    await running.idle();
    await eventually(
      'the lease of the dead is gone',
      async () => (await leasesIn(tenant.id)) === 0,
    );
    assert.deepEqual(await service.broken({ images: real.images }), []);
  });

  test('a containerd that dies while builds pull takes nothing with it but time', async () => {
    await using service = await openExecutorService(openTestSqlite);
    await using proxy = await startFaultProxy(registry);
    await publish('restart', [Buffer.from('small')]);
    const daemonDir = path.join(dir, 'd2');
    const first = await startPrivateContainerd({ dir: daemonDir, keepRoot: true });
    await using real = openRealParts(first.address, service.directory);
    const reached = Promise.withResolvers<void>();
    proxy.plan((seen) => {
      if (!seen.includes('/blobs/')) return undefined;
      return { kind: 'stall', afterBytes: 10, onStall: () => reached.resolve() };
    });
    const tenant = await service.tenant('acme');
    const id = await service.submit(tenant, { reference: `${proxy.host}/restart:1` });
    await using running = service.start(real.changes, { images: real.images });
    await reached.promise;
    await first.stop();
    proxy.plan(() => undefined);
    await eventually('it is noticed', () => !running.executor.status().runtime.up);
    await using second = await startPrivateContainerd({ dir: daemonDir });
    assert.equal(second.address, first.address);
    const build = await service.until(id);
    assert.equal(build.state, 'completed', build.errorMessage ?? '');
    await running.idle();
    await eventually(
      'no lease is left',
      async () => (await real.images.leases({ signal: never })).length === 0,
    );
    assert.deepEqual(await service.broken({ images: real.images }), []);
  });
});

/** Direct and indirect children that are workers or start them. */
async function childrenOf(pid: number): Promise<readonly string[]> {
  const found: string[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = await readFile(`/proc/${entry}/stat`, 'latin1');
      const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
      if (parent === String(pid)) found.push(entry, ...(await childrenOf(Number(entry))));
    } catch (reason) {
      if (errnoOf(reason) !== 'ENOENT' && errnoOf(reason) !== 'ESRCH') throw reason;
    }
  }
  return found;
}
