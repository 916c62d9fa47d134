import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';

const TESTS = resolve(import.meta.dirname, '..');
/** Hostile input of the API (G) and of database and operations (H). */
const ROWS = [
  ...Array.from({ length: 37 }, (_, n) => `G${n + 1}`),
  ...Array.from({ length: 24 }, (_, n) => `H${n + 1}`),
];

/** Rows about what builderd does not do yet, with what they wait for. */
const LATER = new Map([['H14', 'builderd backup and restore']]);

/** The titles of all tests, as they stand in the source. */
function titles(): readonly string[] {
  const files = readdirSync(TESTS, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.test.ts'),
  );
  const call = /\btest\(\s*(?:'(?<a>(?:[^'\\]|\\.)*)'|"(?<b>(?:[^"\\]|\\.)*)"|`(?<c>[^`]*)`)/g;
  return files.flatMap((file) =>
    Array.from(readFileSync(join(TESTS, file), 'utf8').matchAll(call), ({ groups }) =>
      String(groups?.['a'] ?? groups?.['b'] ?? groups?.['c']),
    ),
  );
}

/** "G5 and G12: bodies …" names two rows; a row in the middle of a sentence counts as well. */
const rowsIn = (title: string): readonly string[] => title.match(/\b[GH]\d{1,2}\b/g) ?? [];

test('every row about the API and about operations is named by a test, or waits for a capability that is named', () => {
  const all = titles();
  assert.ok(all.length > 1000, `${all.length} tests were found`);
  const named = new Set(all.flatMap(rowsIn));
  const bare = ROWS.filter((row) => !named.has(row) && !LATER.has(row));
  assert.deepEqual(bare, [], 'no test names them');
  const built = [...LATER.keys()].filter((row) => named.has(row));
  assert.deepEqual(built, [], 'a test names them: they wait for nothing any more');
  const unknown = [...named].filter((row) => !ROWS.includes(row));
  assert.deepEqual(unknown, [], 'there are no such rows');
});

test('the rows of a title are found however it is written', () => {
  assert.deepEqual(rowsIn('G5 and G12: bodies that are too large'), ['G5', 'G12']);
  assert.deepEqual(rowsIn('tokens that prove nothing are nobody: G25'), ['G25']);
  assert.deepEqual(rowsIn('HEAD and GET of SHA256 files'), []);
});
