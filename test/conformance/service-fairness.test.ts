import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Quotas } from '../../src/core/quotas.ts';
import { createInProcessConverter } from '../../src/builds/worker/in-process-converter.ts';
import { systemClock } from '../../src/core/clock.ts';
import { loadAddon } from '../../native/addon.ts';
import { DEFAULT_CONVERSION_LIMITS } from '../../src/rootfs/layer/layer-source.ts';
import { type ApiHarness, startTestApi, stringMember } from '../fixtures/api.ts';
import { forEachDatabase, type OpenTestDatabase } from '../fixtures/databases.ts';
import {
  APP,
  eventually,
  type ExecutorService,
  openExecutorService,
} from '../fixtures/executor-service.ts';
import { Gate, gatedConverter } from '../fixtures/gates.ts';

const CROWD = 500;

/** The API and an executor on one database. No build gets further than the gate before it opens. */
class Queue implements AsyncDisposable {
  readonly gate = new Gate();
  readonly service: ExecutorService;
  readonly api: ApiHarness;

  private constructor(service: ExecutorService, api: ApiHarness) {
    this.service = service;
    this.api = api;
  }

  static async open(open: OpenTestDatabase): Promise<Queue> {
    await using undo = new AsyncDisposableStack();
    const service = undo.use(await openExecutorService(open));
    const api = undo.use(await startTestApi({ database: service.database }));
    undo.move();
    return new Queue(service, api);
  }

  startExecutor(slots: number): AsyncDisposable {
    const inner = createInProcessConverter({
      addon: loadAddon(),
      limits: DEFAULT_CONVERSION_LIMITS,
      clock: systemClock,
      version: '0.0.0-test',
    });
    return this.service.start({ slots, converter: gatedConverter(inner, this.gate, 'convert') });
  }

  /** A token of a new tenant. */
  async tenant(name: string, quotas: Partial<Quotas> = {}): Promise<string> {
    const { token } = await this.api.tenant(name);
    const answer = await this.api.fetch('/v1/quotas', {
      method: 'PATCH',
      token: this.api.operator,
      headers: { 'x-tenant-id': name },
      json: { maxQueuedBuilds: 1000, maxConcurrentBuilds: 50, ...quotas },
    });
    assert.equal(answer.status, 200, await answer.text());
    return token;
  }

  build(token: string, priority = 0): Promise<string> {
    return this.api.build(token, { source: { image: { reference: APP } }, priority });
  }

  /** In the order of the ids, which is that of the queue. */
  async builds(token: string, count: number, priority = 0): Promise<readonly string[]> {
    const ids: string[] = [];
    while (ids.length < count) {
      const some = Math.min(20, count - ids.length);
      ids.push(
        ...(await Promise.all(Array.from({ length: some }, () => this.build(token, priority)))),
      );
    }
    return ids.toSorted();
  }

  /** "reason, ahead", and the sentence. */
  async waiting(token: string, id: string | undefined): Promise<readonly [string, string]> {
    const answer = await this.api.fetch(`/v1/builds/${id}`, { token });
    const build: unknown = await answer.json();
    const waiting: unknown =
      typeof build === 'object' && build !== null ? Reflect.get(build, 'waiting') : undefined;
    assert.ok(typeof waiting === 'object' && waiting !== null, JSON.stringify(build));
    return [
      `${stringMember(waiting, 'reason')}, ${Reflect.get(waiting, 'ahead')}`,
      stringMember(waiting, 'message'),
    ];
  }

  /** Builds in the order in which the executor took them. */
  claims(): readonly string[] {
    return this.service.lines
      .filter(({ message }) => message === 'Build claimed')
      .map(({ buildId }) => String(buildId));
  }

  async untilClaimed(count: number): Promise<void> {
    await eventually(`${count} claims`, () => this.claims().length >= count);
  }

  async untilCompleted(ids: readonly string[]): Promise<void> {
    const { k } = this.service.database;
    await eventually('the builds are completed', async () => {
      const rows = await k.selectFrom('builds').select('state').where('id', 'in', ids).execute();
      assert.ok(!rows.some(({ state }) => state === 'failed'));
      return rows.every(({ state }) => state === 'completed');
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.api[Symbol.asyncDispose]();
    await this.service[Symbol.asyncDispose]();
  }
}

forEachDatabase((name, openTestDatabase) => {
  test(`a tenant with one build on ${name} passes 500 builds of another one, and each says why it waits`, async () => {
    await using queue = await Queue.open(openTestDatabase);
    const crowd = await queue.tenant('crowd');
    const crowded = await queue.builds(crowd, CROWD);
    assert.deepEqual(await queue.waiting(crowd, crowded.at(-1)), [
      `no_executor, ${CROWD - 1}`,
      `No executor is running; ${CROWD - 1} before it`,
    ]);
    await using executor = queue.startExecutor(2);
    void executor;
    await queue.untilClaimed(2);
    const single = await queue.tenant('single');
    const one = await queue.build(single);
    assert.deepEqual(await queue.waiting(crowd, crowded.at(-1)), [
      `host_concurrency, ${CROWD - 3}`,
      `All hosts run as many builds as they may; ${CROWD - 3} before it`,
    ]);
    // What is ahead in one's own queue is shown, and nothing of others.
    assert.deepEqual(await queue.waiting(single, one), [
      'host_concurrency, 0',
      'All hosts run as many builds as they may',
    ]);
    queue.gate.open();
    await queue.untilCompleted([one]);
    const claims = queue.claims();
    assert.deepEqual(claims.slice(0, 3), [crowded[0], crowded[1], one]);
  });

  test(`neither weight nor priority on ${name} lets 500 builds keep three other tenants waiting`, async () => {
    await using queue = await Queue.open(openTestDatabase);
    const crowd = await queue.tenant('crowd', { weight: 1000 });
    const crowded = await queue.builds(crowd, CROWD - 1, 50);
    const urgent = await queue.build(crowd, 100);
    await using executor = queue.startExecutor(1);
    void executor;
    await queue.untilClaimed(1);
    const others = await Promise.all(
      ['second', 'third', 'fourth'].map(async (tenant) => {
        const token = await queue.tenant(tenant, { weight: 1 });
        return { token, id: await queue.build(token, -100) };
      }),
    );
    for (const { token, id } of others) {
      assert.equal((await queue.waiting(token, id))[0], 'host_concurrency, 0');
    }
    assert.equal((await queue.waiting(crowd, crowded.at(0)))[0], 'host_concurrency, 0');
    queue.gate.open();
    await queue.untilCompleted(others.map(({ id }) => id));
    const claims = queue.claims();
    assert.equal(claims[0], urgent, 'priority counts within a tenant');
    for (const { id } of others) {
      const before = claims.slice(1, claims.indexOf(id));
      const ofCrowd = before.filter((each) => crowded.includes(each)).length;
      assert.ok(ofCrowd <= 1, `${ofCrowd} builds of the crowd came before it`);
      assert.ok(before.length <= others.length, `${before.length} claims came before it`);
    }
  });

  test(`tenants on ${name} that all have much to build get their shares by weight`, async () => {
    await using queue = await Queue.open(openTestDatabase);
    const weights = { crowd: 100, second: 300 };
    const crowded = await queue.builds(await queue.tenant('crowd', { weight: weights.crowd }), 60);
    await using executor = queue.startExecutor(1);
    void executor;
    await queue.untilClaimed(1);
    const second = await queue.tenant('second', { weight: weights.second });
    const wanted = await queue.builds(second, 12);
    assert.equal((await queue.waiting(second, wanted.at(-1)))[0], 'host_concurrency, 11');
    queue.gate.open();
    await queue.untilCompleted(wanted);
    const claims = queue.claims();
    const until = claims.slice(1, claims.lastIndexOf(String(wanted.at(-1))) + 1);
    const ofCrowd = until.filter((id) => crowded.includes(id)).length;
    assert.ok(ofCrowd >= 3 && ofCrowd <= 5, `${ofCrowd} of the crowd beside 12 of the second`);
  });

  test(`a tenant on ${name} at its own limit waits for itself, and leaves the rest of the host to others`, async () => {
    await using queue = await Queue.open(openTestDatabase);
    const crowd = await queue.tenant('crowd', { maxConcurrentBuilds: 2 });
    const crowded = await queue.builds(crowd, 10);
    await using executor = queue.startExecutor(4);
    void executor;
    await queue.untilClaimed(2);
    assert.deepEqual(await queue.waiting(crowd, crowded.at(-1)), [
      'tenant_concurrency, 7',
      '2 of 2 builds of the tenant are running; 7 before it',
    ]);
    const others = await Promise.all(
      ['second', 'third'].map(async (tenant) => queue.build(await queue.tenant(tenant))),
    );
    // The gate is closed: they start beside the first two, not after them.
    await queue.untilClaimed(4);
    assert.deepEqual(queue.claims().slice(2).toSorted(), others.toSorted());
    queue.gate.open();
    await queue.untilCompleted([...crowded, ...others]);
  });
});
