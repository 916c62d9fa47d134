import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTenantName } from '../../src/core/ids.ts';
import { addUsage } from '../../src/store/usage/add-usage.ts';
import {
  countBuilds,
  totalBuildMs,
  usageDays,
  usageToday,
} from '../../src/store/usage/read-usage.ts';
import { ensureTenant } from '../../src/store/tenants/ensure-tenant.ts';
import { findTenant } from '../../src/store/tenants/find-tenant.ts';
import { listViolations } from '../../src/store/violations/list-violations.ts';
import { recordViolation } from '../../src/store/violations/record-violation.ts';
import { readEvents } from '../../src/store/events/read-events.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { inTime } from '../fixtures/services.ts';

const ACME = parseTenantName('acme');

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: ensureTenant() makes a tenant once, also when many ask at once`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const second = await opened.open();
    const asked = await Promise.all(
      [database, second, database, second].map((each) =>
        each.transaction(
          (tx) => ensureTenant(tx, { name: ACME, tier: 'pro', overrides: { weight: 7 } }),
          inTime(),
        ),
      ),
    );
    assert.equal(new Set(asked.map(({ tenant }) => tenant.id)).size, 1);
    assert.equal(asked.filter(({ created }) => created).length, 1);
    const tenant = await findTenant(database, ACME);
    assert.equal(tenant?.tier, 'pro');
    assert.equal(tenant?.quotas.weight, 7);
    assert.equal(tenant?.quotas.maxConcurrentBuilds, 3);
    assert.equal(await findTenant(database, parseTenantName('other')), undefined);
  });

  test(`${name}: addUsage() loses no addition of concurrent writers`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const second = await opened.open();
    const { tenant } = await database.transaction(
      (tx) => ensureTenant(tx, { name: ACME, tier: 'free', overrides: {} }),
      inTime(),
    );
    assert.equal((await usageToday(database, tenant.id)).buildsCreated, 0);
    await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        (index % 2 === 0 ? database : second).transaction(
          (tx) => addUsage(tx, tenant.id, { buildsCreated: 1, buildMs: 1000.4, cpuUs: -5 }),
          inTime(),
        ),
      ),
    );
    const today = await usageToday(database, tenant.id);
    assert.equal(today.buildsCreated, 20);
    assert.equal(today.buildMs, 20_000);
    assert.equal(today.cpuUs, 0);
    assert.equal(await totalBuildMs(database, tenant.id), 20_000);
    assert.match(today.day, /^\d{4}-\d{2}-\d{2}$/);
    const days = await usageDays(database, tenant.id, { from: today.day, to: today.day, limit: 9 });
    assert.deepEqual(days, [today]);
    assert.deepEqual(await countBuilds(database, tenant.id), { active: 0, queued: 0 });
  });

  test(`${name}: recordViolation() writes one row and one event for a caller that hammers`, async () => {
    await using opened = await openTestDatabase();
    const { database } = opened;
    const { tenant } = await database.transaction(
      (tx) => ensureTenant(tx, { name: ACME, tier: 'free', overrides: {} }),
      inTime(),
    );
    const outcomes: boolean[] = [];
    for (let current = 5; current < 10; current += 1) {
      const violation = {
        tenantId: tenant.id,
        quotaType: 'daily_builds',
        current,
        limit: 5,
        message: 'a\0b',
      } as const;
      const { isNew } = await database.transaction(
        (tx) => recordViolation(tx, violation),
        inTime(),
      );
      outcomes.push(isNew);
    }
    assert.deepEqual(outcomes, [true, false, false, false, false]);
    const [only, ...others] = await listViolations(database, tenant.id, { limit: 10 });
    assert.deepEqual(others, []);
    assert.equal(only?.currentValue, 9);
    assert.equal(only?.message, 'ab');
    const events = await readEvents(database, tenant.id, { after: 0, limit: 10 });
    assert.deepEqual(
      events.map(({ seq, type, data }) => ({ seq, type, limit: data['limit'] })),
      [{ seq: 1, type: 'quota.exceeded', limit: 5 }],
    );
  });
});
