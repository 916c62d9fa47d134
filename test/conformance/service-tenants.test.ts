import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTenantName } from '../../src/core/ids.ts';
import { writeAudit } from '../../src/store/audit/write-audit.ts';
import { callerOf, OPERATOR } from '../fixtures/callers.ts';
import { forEachDatabase } from '../fixtures/databases.ts';
import { inTime, testServices } from '../fixtures/services.ts';

const GIB = 1024 ** 3;
const ACME = parseTenantName('acme');

forEachDatabase((name, openTestDatabase) => {
  test(`${name}: resolve() gives the only tenant, a named one, or says why not`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const { tenants } = services;
    const acme = await services.tenant('acme');
    await services.tenant('other');
    assert.deepEqual(await tenants.resolve(callerOf('acme'), undefined, inTime()), acme);
    assert.deepEqual(await tenants.resolve(callerOf('acme'), ACME, inTime()), acme);
    assert.deepEqual(await tenants.resolve(OPERATOR, ACME, inTime()), acme);
    const refused = [
      [callerOf('acme'), 'other', 'api.forbidden'],
      // The same answer for one that does not exist.
      [callerOf('acme'), 'nobody', 'api.forbidden'],
      [callerOf('gone'), 'gone', 'api.not_found'],
      [OPERATOR, 'nobody', 'api.not_found'],
      [OPERATOR, undefined, 'api.invalid'],
      [{ ...callerOf('acme'), tenants: new Set<typeof ACME>() }, undefined, 'api.invalid'],
      // Only an operator's "all" means all.
      [{ ...callerOf('acme'), tenants: 'all' }, 'other', 'api.forbidden'],
    ] as const;
    for (const [caller, wanted, code] of refused) {
      const named = wanted === undefined ? undefined : parseTenantName(wanted);
      await assert.rejects(tenants.resolve(caller, named, inTime()), { code });
    }
  });

  test(`${name}: createMissing makes a tenant of an allowed name with the defaults`, async () => {
    await using opened = await openTestDatabase();
    const { tenants } = testServices(opened.database, {
      createMissing: true,
      newTenants: { tier: 'pro', overrides: { maxDailyBuilds: 3 } },
    });
    const ref = await tenants.resolve(callerOf('acme'), undefined, inTime());
    const view = await tenants.get(ref, inTime());
    assert.deepEqual([view.tier, view.quotas.maxDailyBuilds], ['pro', 3]);
    await assert.rejects(tenants.resolve(callerOf('acme'), parseTenantName('other'), inTime()), {
      code: 'api.forbidden',
    });
    await assert.rejects(tenants.resolve(callerOf('new', 'reader'), undefined, inTime()), {
      code: 'api.forbidden',
    });
  });

  test(`${name}: an operator's mistyped name makes no tenant, and neither does a name out of "all"`, async () => {
    await using opened = await openTestDatabase();
    const { tenants } = testServices(opened.database, { createMissing: true });
    const named = { ...callerOf('acme'), role: 'operator' } as const;
    const everywhere = { ...callerOf('acme'), tenants: 'all' } as const;
    const refused = [
      [OPERATOR, 'api.not_found'],
      [{ ...OPERATOR, actor: 'jwt:https://id.example/root' }, 'api.not_found'],
      [named, 'api.not_found'],
      [everywhere, 'api.forbidden'],
    ] as const;
    for (const [caller, code] of refused) {
      await assert.rejects(tenants.resolve(caller, ACME, inTime()), { code });
    }
    assert.deepEqual(await tenants.list(OPERATOR, inTime()), []);
    // Where nobody can tell who calls, there is no other name than one that is typed.
    const developer = { ...OPERATOR, actor: 'development' };
    assert.equal((await tenants.resolve(developer, ACME, inTime())).name, 'acme');
  });

  test(`${name}: defaults that no row may hold stop the making of a tenant, not its reading`, async () => {
    await using opened = await openTestDatabase();
    const make = (overrides: object) =>
      testServices(opened.database, {
        createMissing: true,
        newTenants: { tier: 'free', overrides },
      }).tenants.resolve(callerOf('acme'), undefined, inTime());
    for (const overrides of [
      { maxBuildMinutes: 99_999 },
      { maxCpuCores: 0.5 },
      { timeoutSeconds: 900, maxBuildMinutes: 5 },
    ]) {
      await assert.rejects(make(overrides), { code: 'config.invalid', message: /TENANT_DEFAULT_/ });
    }
    const ref = await make({ timeoutSeconds: 900 });
    const view = await testServices(opened.database).tenants.get(ref, inTime());
    assert.deepEqual(view.overrides, { timeoutSeconds: 900, maxBuildMinutes: 15 });
  });

  test(`H24 ${name}: an operator creates and changes tenants, with versions, audit and an event`, async () => {
    await using opened = await openTestDatabase();
    const { tenants, events } = testServices(opened.database, {
      newTenants: { tier: 'free', overrides: { maxDailyBuilds: 50 } },
    });
    const made = await tenants.create(OPERATOR, { name: ACME }, inTime());
    assert.deepEqual([made.tier, made.overrides], ['free', { maxDailyBuilds: 50 }]);
    await assert.rejects(tenants.create(OPERATOR, { name: ACME }, inTime()), {
      code: 'api.conflict',
    });
    const big = await tenants.create(
      OPERATOR,
      { name: parseTenantName('big'), tier: 'dedicated', overrides: { weight: 9 } },
      inTime(),
    );
    assert.deepEqual(big.overrides, { weight: 9 });
    const ref = await tenants.resolve(OPERATOR, ACME, inTime());
    const changed = await tenants.update(
      OPERATOR,
      ref,
      { tier: 'pro', suspended: true, overrides: { maxDailyBuilds: null, weight: 5 } },
      { ...inTime(), ifVersion: made.version },
    );
    assert.equal(changed.version, made.version + 1);
    assert.deepEqual(
      [changed.tier, changed.suspended, changed.overrides],
      ['pro', true, { weight: 5 }],
    );
    assert.equal(changed.quotas.maxDailyBuilds, 100);
    const stale = tenants.update(
      OPERATOR,
      ref,
      { suspended: false },
      { ...inTime(), ifVersion: made.version },
    );
    await assert.rejects(stale, { code: 'api.conflict' });
    const same = await tenants.update(OPERATOR, ref, { tier: 'pro' }, inTime());
    assert.equal(same.version, changed.version);
    const seen = await events.read(ref, { after: 0, limit: 10, ...inTime() });
    assert.deepEqual(
      seen.map(({ type, data }) => [type, data]),
      [['tenant.updated', { tier: 'pro', suspended: true, version: changed.version }]],
    );
    const [update, create, ...others] = await tenants.audit(OPERATOR, {
      limit: 10,
      tenant: ref,
      ...inTime(),
    });
    assert.deepEqual(others, []);
    assert.equal(create?.action, 'tenant.create');
    assert.deepEqual(
      { ...update, at: 0 },
      {
        at: 0,
        actor: 'local',
        tenant: 'acme',
        action: 'tenant.update',
        target: 'acme',
        oldValue: { tier: 'free', suspended: false, overrides: { maxDailyBuilds: 50 } },
        newValue: { tier: 'pro', suspended: true, overrides: { weight: 5 } },
        requestId: 'request-1',
        address: '192.0.2.1',
      },
    );
    const all = await tenants.list(OPERATOR, inTime());
    assert.deepEqual(
      all.map((each) => each.name),
      ['acme', 'big'],
    );
    const own = await tenants.list(callerOf('big'), inTime());
    assert.deepEqual(
      own.map((each) => each.name),
      ['big'],
    );
  });

  test(`H17 ${name}: a dry run checks and answers like an update, and writes nothing`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const ref = await services.tenant('acme');
    const before = await services.tenants.get(ref, inTime());
    const dry = { ...inTime(), dryRun: true };
    const change = { tier: 'pro', overrides: { weight: 7 } } as const;
    const view = await services.tenants.update(OPERATOR, ref, change, dry);
    assert.deepEqual([view.tier, view.quotas.weight, view.quotas.maxDailyBuilds], ['pro', 7, 100]);
    await assert.rejects(services.tenants.update(OPERATOR, ref, change, { ...dry, ifVersion: 9 }), {
      code: 'api.conflict',
    });
    await assert.rejects(services.tenants.update(callerOf('acme'), ref, change, dry), {
      code: 'api.forbidden',
    });
    assert.deepEqual(await services.tenants.get(ref, inTime()), before);
    assert.deepEqual(await services.events.read(ref, { after: 0, limit: 9, ...inTime() }), []);
  });

  test(`${name}: of two operators with the same version, one wins`, async () => {
    await using opened = await openTestDatabase();
    const second = await opened.open();
    const services = testServices(opened.database);
    const ref = await services.tenant('acme');
    const both = await Promise.allSettled(
      [services.tenants, testServices(second).tenants].map((each, index) =>
        each.update(
          OPERATOR,
          ref,
          { overrides: { weight: index + 5 } },
          { ...inTime(), ifVersion: 0 },
        ),
      ),
    );
    assert.deepEqual(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    assert.equal((await services.tenants.get(ref, inTime())).version, 1);
  });

  test(`H17 and H18 ${name}: quotas that cannot be meant are refused and change nothing`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database, {
      hostCapacity: { memoryBytes: 8 * GIB, cpuCores: 4, diskBytes: 100 * GIB },
    });
    const ref = await services.tenant('acme');
    const refused = [
      { maxMemoryBytes: 9 * GIB },
      { maxCpuCores: 5 },
      { maxDiskBytes: 101 * GIB },
      { maxStorageBytes: 101 * GIB },
      { timeoutSeconds: 3600 },
      { maxConcurrentBuilds: -1 },
      { maxConcurrentBuilds: 0 },
      { weight: 1.5 },
    ];
    for (const overrides of refused) {
      const update = services.tenants.update(OPERATOR, ref, { overrides }, inTime());
      await assert.rejects(update, { code: 'api.invalid' }, JSON.stringify(overrides));
    }
    assert.deepEqual((await services.tenants.get(ref, inTime())).overrides, {});
    // A tier may be larger than the host: admission cuts it to size.
    await services.tenants.update(OPERATOR, ref, { tier: 'dedicated' }, inTime());
  });

  test(`${name}: usage(), violations() and usageDays() answer zeros for a new tenant`, async () => {
    await using opened = await openTestDatabase();
    const services = testServices(opened.database);
    const ref = await services.tenant('acme');
    assert.deepEqual(await services.tenants.usage(ref, inTime()), {
      activeBuilds: 0,
      queuedBuilds: 0,
      dailyBuildsUsed: 0,
      storageBytesUsed: 0,
      computeMinutesUsed: 0,
      buildsCompletedToday: 0,
      buildsFailedToday: 0,
    });
    assert.deepEqual(await services.tenants.violations(ref, { limit: 5, ...inTime() }), []);
    const period = { from: '2026-01-01', to: '2026-12-31' };
    assert.deepEqual(await services.tenants.usageDays(ref, period, inTime()), []);
    await assert.rejects(services.tenants.usageDays(ref, { from: "'", to: '' }, inTime()), {
      code: 'api.invalid',
    });
  });

  test(`${name}: the audit log pages without losing entries of one millisecond`, async () => {
    await using opened = await openTestDatabase();
    const { tenants } = testServices(opened.database);
    const total = 40;
    await opened.database.transaction(async (tx) => {
      for (let index = 0; index < total; index += 1) {
        await writeAudit(tx, OPERATOR, { action: 'test.note', target: `n${index}` });
      }
    }, inTime());
    const seen: string[] = [];
    let before: number | undefined;
    for (;;) {
      const page = await tenants.audit(OPERATOR, {
        limit: 3,
        ...inTime(),
        ...(before === undefined ? {} : { before }),
      });
      if (page.length === 0) break;
      seen.push(...page.map((entry) => entry.target));
      before = page.at(-1)?.at;
    }
    assert.equal(seen.length, total);
    assert.equal(new Set(seen).size, total);
  });
});
