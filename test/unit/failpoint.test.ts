import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuilderdError } from '../../src/core/errors.ts';
import { NO_FAILPOINTS, parseFailpoints } from '../../src/core/failpoint.ts';

const host = { kill: () => assert.fail('killed') };

async function outcomes(text: string, name: string, hits: number): Promise<string[]> {
  const points = parseFailpoints(text, host);
  const seen: string[] = [];
  for (let hit = 0; hit < hits; hit += 1) {
    try {
      await points.hit(name);
      seen.push('on');
    } catch (reason) {
      seen.push(reason instanceof BuilderdError ? reason.code : 'other');
    }
  }
  return seen;
}

test('a name without an action does nothing', async () => {
  assert.deepEqual(await outcomes('a=error(internal)', 'b', 2), ['on', 'on']);
  await NO_FAILPOINTS.hit('a');
});

test('terms act in turn, each as often as its count says, and nothing happens after the last', async () => {
  const text = 'x=off;a=2*off->1*error(storage.full)->1*error(build.lost)';
  assert.deepEqual(await outcomes(text, 'a', 6), [
    'on',
    'on',
    'storage.full',
    'build.lost',
    'on',
    'on',
  ]);
});

test('a term without a count acts for ever', async () => {
  assert.deepEqual(await outcomes('a=error', 'a', 3), ['internal', 'internal', 'internal']);
});

test('kill9 kills and nothing follows', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  let passed = false;
  const points = parseFailpoints('a=kill9', { kill: resolve });
  // Left waiting on purpose: the process would be dead by now.
  void points.hit('a').then(() => {
    passed = true;
  });
  await promise;
  assert.equal(passed, false);
});

test('text that is not the grammar is refused', () => {
  for (const text of [
    'a',
    'a=',
    'a=what',
    'A=off',
    'a=error(no.such)',
    'a=delay',
    'a=x*off',
    'a=off->',
  ]) {
    assert.throws(() => parseFailpoints(text, host), { code: 'config.invalid' }, text);
  }
});
