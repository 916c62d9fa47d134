import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString } from '../../src/core/bytes.ts';
import { MatchBudget } from '../../src/rootfs/filter/match-budget.ts';
import { TreeFilter } from '../../src/rootfs/filter/tree-filter.ts';
import { startTestApi } from '../fixtures/api.ts';

/** G20: patterns that make matchers by backtracking or by regular expressions run for ever. */
function filterOf(exclude: readonly string[], budget?: MatchBudget): TreeFilter {
  return new TreeFilter({ exclude, preserve: [], removeDocs: false, removeCache: false }, budget);
}

/** Goes down `depth` directories of one name and asks for a file there. */
function goDown(filter: TreeFilter, name: string, depth: number): boolean {
  let state = filter.root;
  for (let level = 1; level < depth; level++) state = filter.enter(state, name as ByteString);
  return filter.drops(state, name as ByteString, 'file');
}

test('a thousand times **/ is one, and costs a few steps for each name', () => {
  // 1,000 of them are over the length of a pattern, which is refused before it is read.
  assert.throws(() => filterOf([`${'**/'.repeat(1000)}x`]), { code: 'usage.invalid' });
  const filter = filterOf([`${'**/'.repeat(341)}x`]);
  assert.equal(goDown(filter, 'a', 1000), false);
  assert.equal(goDown(filter, 'x', 1), true);
  assert.ok(filter.steps < 100_000, `${filter.steps} steps`);
});

test('any-depth parts between names cost at most a look at each part for each name', () => {
  // An automaton looks at 1,000 names × 512 parts, some twenty times each; backtracking takes 1000^256 steps.
  const filter = filterOf([`${'**/a/'.repeat(200)}b`]);
  assert.equal(goDown(filter, 'a', 1000), false);
  assert.ok(filter.steps < 20 * 1000 * 512, `${filter.steps} steps`);
});

test('stars in a name cost at most the name times the pattern', () => {
  const filter = filterOf([`${'*a'.repeat(500)}b`]);
  assert.equal(goDown(filter, 'a'.repeat(255), 1), false);
  assert.ok(filter.steps < 255 * 1024, `${filter.steps} steps`);
});

test('G20: 32 KiB of the worst patterns against the longest names end in a typed error, not in hours', () => {
  const worst = Array.from({ length: 31 }, (_each, index) => `**/${'*a?'.repeat(339)}${index}`);
  const filter = filterOf(worst, new MatchBudget(50_000_000));
  assert.throws(
    () => {
      for (let count = 0; count < 2_000_000; count++) goDown(filter, `${'a'.repeat(250)}b`, 3);
    },
    { code: 'archive.limit', message: /more than 50000000 steps/ },
  );
});

test('G20: directories in which many places are open cost what it takes to compute their states', () => {
  const patterns = Array.from({ length: 31 }, (_each, index) => `${'**/?/'.repeat(200)}${index}`);
  const filter = filterOf(patterns, new MatchBudget(100_000_000));
  assert.throws(() => goDown(filter, 'a', 1500), { code: 'archive.limit', message: /steps/ });
});

test('states remembered for directories are bounded', () => {
  // Each directory opens another set of places: a state for each would take gigabytes.
  const patterns = Array.from({ length: 16 }, (_each, index) => {
    const letter = String.fromCharCode(97 + index);
    return `**/${letter}/${'**/*/'.repeat(200)}z`;
  });
  const filter = filterOf(patterns);
  assert.throws(
    () => {
      const visit = (state: TreeFilter['root'], depth: number): void => {
        if (depth === 0) return;
        for (let index = 0; index < 16; index++) {
          visit(filter.enter(state, String.fromCharCode(97 + index) as ByteString), depth - 1);
        }
      };
      visit(filter.root, 6);
    },
    { code: 'archive.limit' },
  );
});

test('G20: paths that leave the root, absolute ones and control characters are refused', () => {
  for (const text of ['../../etc/passwd', 'a/../../b', '/etc/passwd', 'a\0b', 'a\x1b[2J', '.']) {
    assert.throws(() => filterOf([text]), { code: 'usage.invalid' }, JSON.stringify(text));
  }
});

test('the API answers patterns that cannot be with a typed fault, and keeps nothing of them', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  for (const target of [
    { exclude: ['../../etc/passwd'] },
    { preserve: ['/etc/passwd'] },
    { exclude: ['a\0b'] },
    { exclude: ['(a+)+$\n'] },
    { exclude: ['['.repeat(1000)] },
    { exclude: [`${'**/'.repeat(1000)}x`] },
    { exclude: Array.from({ length: 257 }, () => 'a') },
    { exclude: Array.from({ length: 64 }, (_each, index) => `${index}`.padEnd(1000, 'a')) },
    { exclude: 'a' },
    { exclude: [1] },
  ]) {
    const json = { source: { image: { reference: 'debian' } }, target };
    const answer = await api.fetch('/v1/builds', { method: 'POST', token, json });
    const text = await answer.text();
    assert.equal(answer.status, 400, text);
    assert.match(text, /"code":"api\.invalid"/);
    assert.ok(text.length < 2000, `${text.length} characters`);
  }
  // What a regular expression would take for one is a plain name here.
  const json = {
    source: { image: { reference: 'debian' } },
    target: { exclude: ['(a+)+$', '^.{1,99999}$'] },
  };
  const taken = await api.fetch('/v1/builds', { method: 'POST', token, json });
  assert.equal(taken.status, 202, await taken.text());
  const { total } = JSON.parse(await (await api.fetch('/v1/builds', { token })).text()) as {
    readonly total: number;
  };
  assert.equal(total, 1);
});
