import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import {
  findArrowFaults,
  findCycles,
  importsOf,
  readSources,
} from '../../contrib/dev/import-graph.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const files = readSources(ROOT, ['src', 'native']);

test('importsOf() sees static, multi-line, type, side-effect, re-exported and dynamic imports', () => {
  const text = `
import './a.ts';
import { b } from './b.ts';
import type {
  C,
} from "./c.ts";
export { d } from './d.ts';
const e = await import('./e.ts');
`;
  assert.deepEqual(importsOf(text).toSorted(), ['./a.ts', './b.ts', './c.ts', './d.ts', './e.ts']);
});

test('findArrowFaults() names imports that point up, sideways or out of the house', () => {
  const planted = new Map([
    ['src/core/x.ts', "import { y } from '../tar/y.ts';"],
    ['src/rootfs/x.ts', "import { y } from '../runtime/y.ts';\nimport { z } from '../core/z.ts';"],
    ['src/tar/x.ts', "import { y } from '../../test/y.ts';"],
    ['src/attic/x.ts', "import { y } from '../core/y.ts';"],
    ['src/builds/x.ts', "import { y } from '../../native/addon.ts';"],
  ]);
  assert.deepEqual(findArrowFaults(planted), [
    'src/core/x.ts imports src/tar/y.ts: core must not know tar',
    'src/rootfs/x.ts imports src/runtime/y.ts: rootfs must not know runtime',
    'src/tar/x.ts imports test/y.ts, which is in no room',
    'src/attic/x.ts is in a room that the architecture does not name',
  ]);
});

test('findCycles() finds a cycle, also one of types only', () => {
  const planted = new Map([
    ['src/core/a.ts', "import { b } from './b.ts';"],
    ['src/core/b.ts', "import type { C } from './c.ts';"],
    ['src/core/c.ts', "import { a } from './a.ts';"],
  ]);
  assert.deepEqual(findCycles(planted), [
    'src/core/a.ts -> src/core/b.ts -> src/core/c.ts -> src/core/a.ts',
  ]);
});

test('the imports of src and native point down', () => {
  assert.ok(files.size > 50, `only ${files.size} files were found`);
  assert.deepEqual(findArrowFaults(files), []);
});

test('no file of src and native imports itself in a circle', () => {
  // The generated message types refer to each other as their protos do.
  const ours = [...files].filter(([path]) => !path.startsWith('src/runtime/generated/'));
  assert.deepEqual(findCycles(new Map(ours)), []);
});
