import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Attempt } from '../../src/builds/executor/attempt.ts';
import { endingOf, violationOf } from '../../src/builds/executor/end-attempt.ts';
import type { ErrorCode } from '../../src/core/error-catalogue.ts';
import { BuilderdError } from '../../src/core/errors.ts';
import { newBuildId, newId, parseTenantId, parseTenantName } from '../../src/core/ids.ts';
import { TIER_QUOTAS } from '../../src/core/quotas.ts';

function heldAttempt() {
  const clock = { ms: 1_000_000 };
  const claim = {
    buildId: newBuildId(),
    tenantId: parseTenantId(newId()),
    tenantName: parseTenantName('acme'),
    attempt: 2,
    slot: 0,
    spec: {},
    timeoutMs: 300_000,
    deadlineAt: 0,
    memoryBytes: 1,
    diskBytes: 1,
    quotas: TIER_QUOTAS.free,
  };
  const start = { owner: 'me', askedMs: clock.ms, leftMs: 200_000 };
  const times = { leaseMs: 60_000, marginMs: 15_000, monotonicMs: () => clock.ms };
  return { clock, attempt: new Attempt(claim, start, times) };
}

test('an attempt holds its claim for the lease less the margin, from when it was asked for', () => {
  const { clock, attempt } = heldAttempt();
  const askedMs = clock.ms;
  clock.ms += 44_999;
  assert.equal(attempt.holds, true);
  attempt.renewed(askedMs + 30_000);
  clock.ms = askedMs + 74_999;
  attempt.requireHeld();
  clock.ms = askedMs + 75_000;
  assert.throws(() => attempt.requireHeld(), { code: 'build.lost' });
  assert.equal(attempt.signal.aborted, true);
});

test('a claim that was lost stays lost, also when a late renewal comes in', () => {
  const { clock, attempt } = heldAttempt();
  clock.ms += 60_000;
  assert.equal(attempt.holds, false);
  attempt.renewed(clock.ms);
  assert.equal(attempt.holds, false);
  assert.equal(attempt.stopReason, 'lost');
});

test('the first reason to stop stays, and only a lost claim overrules it', () => {
  const { attempt } = heldAttempt();
  attempt.stop('cancel');
  attempt.stop('deadline');
  assert.equal(attempt.stopReason, 'cancel');
  attempt.stop('lost');
  assert.equal(attempt.stopReason, 'lost');
  assert.equal(attempt.spentMs, 100_000);
});

const fault = (code: ErrorCode): BuilderdError => new BuilderdError(code, 'Cannot do it: a fact');

const ENDINGS: readonly (readonly [ErrorCode, string])[] = [
  ['source.unreachable', 'retried'],
  ['runtime.unreachable', 'retried'],
  ['storage.full', 'retried'],
  ['build.lost', 'lost'],
  ['source.not_found', 'failed'],
  ['archive.bomb', 'failed'],
  ['quota.exceeded', 'failed'],
  ['host.permission', 'failed'],
  ['internal', 'failed'],
];
for (const [code, kind] of ENDINGS) {
  test(`an attempt that throws ${code} is ${kind}`, () => {
    assert.equal(endingOf(heldAttempt().attempt, fault(code)).kind, kind);
  });
}

test('why an attempt was stopped decides before what it threw', () => {
  const kinds = (['cancel', 'deadline', 'handback', 'lost'] as const).map((reason) => {
    const { attempt } = heldAttempt();
    attempt.stop(reason);
    return endingOf(attempt, fault('internal')).kind;
  });
  assert.deepEqual(kinds, ['cancelled', 'failed', 'retried', 'lost']);
});

test('a deadline is a quota that was reached, and other faults are not', () => {
  const { attempt } = heldAttempt();
  attempt.stop('deadline');
  const ending = endingOf(attempt, attempt.signal.reason);
  assert.ok(ending.kind === 'failed');
  assert.equal(ending.error.entry.fault, 'quota');
  const violation = violationOf(ending.error);
  assert.deepEqual([violation?.quotaType, violation?.current], ['build_time', 300]);
  assert.equal(violationOf(fault('archive.bomb')), undefined);
});

test('what is no typed error ends the build as internal', () => {
  const ending = endingOf(heldAttempt().attempt, new TypeError('x is not a function'));
  assert.ok(ending.kind === 'failed');
  assert.equal(ending.error.code, 'internal');
});
