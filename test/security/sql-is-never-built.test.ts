import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { readSources } from '../../contrib/dev/import-graph.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const sources = [...readSources(ROOT, ['src'])].filter(([path]) => !path.includes('/generated/'));

/** Text that becomes SQL as it is. Each use was read: what it holds are constants of the program. */
const RAW = new Map([
  ['src/store/queue/claim-build.ts', 1],
  ['src/store/queue/candidates.ts', 1],
  ['src/store/migrate.ts', 3],
  ['src/store/migrations/0001-initial.ts', 2],
  // Words that begin a transaction.
  ['src/store/postgres-driver.ts', 1],
  ['src/store/sqlite-driver.ts', 1],
]);

/** Literals in a query: words of the program, and numbers by their type. */
const LITERALS = /sql\.lit\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)/g;

const SQL_WORDS =
  /^\s*(?:select\s[\s\S]+\sfrom\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|(?:create|alter|drop)\s+(?:table|index|view|trigger|database)\s)/i;
/** Template literals with a hole; those tagged `sql` bind what stands in it. */
const TEMPLATE = /(?<tag>sql(?:<[^`;]*>)?)?`(?<text>(?:[^`\\]|\\[\s\S])*)`/g;

test('H1: text becomes SQL as it is in few places, and all of them are known', () => {
  const found = new Map<string, number>();
  for (const [path, text] of sources) {
    const count = text.match(/\b(?:sql\.raw|CompiledQuery\.raw|sql\.id|sql\.ref|sql\.table)\(/g);
    if (count !== null) found.set(path, count.length);
  }
  assert.deepEqual(
    [...found].toSorted(([a], [b]) => (a < b ? -1 : 1)),
    [...RAW].toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
});

test('H1: literals in queries are constants and whole numbers', () => {
  const allowed = /^(?:'[a-z_]+'|\d+|[A-Z][A-Z0-9_]*|Math\.round\(\w+\)|leaseMs|limit)$/;
  for (const [path, text] of sources) {
    for (const [, argument = ''] of text.matchAll(LITERALS)) {
      assert.match(argument.trim(), allowed, path);
    }
  }
});

test('H1: no statement is put together from text: values are bound, names are constants', () => {
  const faults: string[] = [];
  for (const [path, text] of sources) {
    for (const match of text.matchAll(TEMPLATE)) {
      const { tag, text: body = '' } = match.groups ?? {};
      if (tag === undefined && body.includes('${') && SQL_WORDS.test(body) && !RAW.has(path)) {
        faults.push(`${path}: ${body.slice(0, 60)}`);
      }
    }
    for (const [, body = '', tail = ''] of text.matchAll(/'((?:[^'\\\n]|\\.)*)'\s*(\+\s*\w)?/g)) {
      if (tail !== '' && SQL_WORDS.test(body)) faults.push(`${path}: ${body.slice(0, 60)} + …`);
    }
  }
  assert.deepEqual(faults, []);
});

test('H1: the search finds what it looks for', () => {
  const bad = 'db.exec(`select * from builds where name = ${name}`)';
  const [match] = [...bad.matchAll(TEMPLATE)];
  assert.equal(match?.groups?.['tag'], undefined);
  assert.ok(SQL_WORDS.test(match?.groups?.['text'] ?? ''));
  const [good] = [...'sql<number>`select 1 from x where a = ${b}`'.matchAll(TEMPLATE)];
  assert.equal(good?.groups?.['tag'], 'sql<number>');
  assert.ok(SQL_WORDS.test('delete from builds where id = '));
});
