import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chargeClaim, type Contender, inFairOrder } from '../../src/store/queue/fair-order.ts';

interface Tenant {
  readonly tenantId: string;
  readonly weight: number;
  running: number;
  pass: number;
  waiting: number;
  claimed: number;
}

function tenant(n: number, weight: number, waiting: number): Tenant {
  return { tenantId: `t${n}`, weight, running: 0, pass: 0, waiting, claimed: 0 };
}

/** Claims as the queue makes them, one after the other. */
class Queue {
  readonly tenants: readonly Tenant[];
  virtualTime = 0;
  #next = 0;

  constructor(tenants: readonly Tenant[]) {
    this.tenants = tenants;
  }

  claim(): Tenant | undefined {
    const ready = this.tenants.filter(({ waiting }) => waiting > 0);
    const contenders = ready.map((each): Contender => ({ ...each, head: `b${this.#next++}` }));
    const [first] = inFairOrder(contenders, this.virtualTime);
    const chosen = ready.find(({ tenantId }) => tenantId === first?.tenantId);
    if (chosen === undefined) return undefined;
    const times = chargeClaim(chosen, this.virtualTime);
    assert.ok(times.virtualTime >= this.virtualTime, 'virtual time went back');
    this.virtualTime = times.virtualTime;
    chosen.pass = times.pass;
    chosen.running += 1;
    chosen.claimed += 1;
    chosen.waiting -= 1;
    return chosen;
  }
}

const weights = fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 2, maxLength: 8 });

test('inFairOrder() gives shares by weight on a host that runs one build at a time', () => {
  fc.assert(
    fc.property(weights, (all) => {
      const queue = new Queue(all.map((weight, n) => tenant(n, weight, 1e6)));
      const rounds = 3000;
      for (let n = 0; n < rounds; n += 1) {
        const chosen = queue.claim();
        if (chosen !== undefined) chosen.running -= 1;
      }
      const total = all.reduce((sum, weight) => sum + weight, 0);
      for (const { weight, claimed } of queue.tenants) {
        const share = (rounds * weight) / total;
        // Each tenant is at most one claim of each other tenant away from its share.
        assert.ok(Math.abs(claimed - share) <= all.length + 1, `${claimed} claims of ${share}`);
      }
    }),
    { numRuns: 40 },
  );
});

test('inFairOrder() gives shares by weight of what runs at once', () => {
  fc.assert(
    fc.property(weights, fc.integer({ min: 10, max: 500 }), (all, slots) => {
      const queue = new Queue(all.map((weight, n) => tenant(n, weight, 1e6)));
      for (let n = 0; n < slots; n += 1) queue.claim();
      const total = all.reduce((sum, weight) => sum + weight, 0);
      for (const { weight, running } of queue.tenants) {
        const share = (slots * weight) / total;
        assert.ok(Math.abs(running - share) <= all.length, `${running} running of ${share}`);
      }
    }),
    { numRuns: 60 },
  );
});

test('inFairOrder() starves nobody: a newcomer is next but one for each tenant, whatever waits', () => {
  fc.assert(
    fc.property(weights, fc.integer({ min: 0, max: 300 }), (all, before) => {
      const crowd = all.map((weight, n) => tenant(n, weight, 1e6));
      const newcomer = tenant(99, 1, 0);
      const queue = new Queue([...crowd, newcomer]);
      const finish = (chosen: Tenant | undefined): void => {
        if (chosen !== undefined) chosen.running -= 1;
      };
      for (let n = 0; n < before; n += 1) finish(queue.claim());
      newcomer.waiting = 1;
      let claims = 0;
      while (newcomer.claimed === 0) {
        finish(queue.claim());
        claims += 1;
        assert.ok(claims <= all.length + 1, 'the newcomer waits too long');
      }
    }),
    { numRuns: 100 },
  );
});

test('chargeClaim() gives no credit for the time that a tenant was idle', () => {
  const [busy, idle] = [tenant(0, 100, 1e6), tenant(1, 100, 0)];
  const queue = new Queue([busy, idle]);
  for (let n = 0; n < 1000; n += 1) {
    const chosen = queue.claim();
    if (chosen !== undefined) chosen.running -= 1;
  }
  idle.waiting = 1000;
  const order = Array.from({ length: 10 }, () => {
    const chosen = queue.claim();
    if (chosen !== undefined) chosen.running -= 1;
    return chosen?.tenantId;
  });
  assert.equal(order.filter((id) => id === 't1').length, 5);
});

test('inFairOrder() prefers whoever has least running for its weight, then the oldest build', () => {
  const base = { pass: 0, weight: 100 };
  const contenders: readonly Contender[] = [
    { ...base, tenantId: 'a', running: 2, head: '1' },
    { ...base, tenantId: 'b', running: 3, weight: 200, head: '4' },
    { ...base, tenantId: 'c', running: 0, pass: 10, head: '2' },
    { ...base, tenantId: 'd', running: 0, pass: 5, head: '3' },
    { ...base, tenantId: 'e', running: 0, pass: 0, head: '0' },
  ];
  const ids = inFairOrder(contenders, 5).map(({ tenantId }) => tenantId);
  assert.deepEqual(ids, ['e', 'd', 'c', 'b', 'a']);
});
