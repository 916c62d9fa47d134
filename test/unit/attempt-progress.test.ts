import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AttemptProgress } from '../../src/builds/executor/attempt-progress.ts';

function started() {
  const clock = { ms: 0 };
  return { clock, progress: new AttemptProgress(() => clock.ms) };
}

const bytes = (id: string, doneBytes: number, totalBytes: number, state = 'running' as const) =>
  ({ kind: 'bytes', phase: 'pull', id, doneBytes, totalBytes, state }) as const;

test('bytes of a pull raise the percentage up to half, and reused blobs are not pulled', () => {
  const { progress } = started();
  progress.add(bytes('a', 0, 100));
  progress.add({ ...bytes('b', 100, 100), state: 'reused' });
  assert.equal(progress.percent, 25);
  progress.add(bytes('a', 50, 100));
  progress.add(bytes('a', 50, 100));
  assert.equal(progress.percent, 37);
  assert.equal(progress.pulledBytes, 50);
});

test('a later phase passes through the states between and never goes back', () => {
  const { clock, progress } = started();
  clock.ms = 1000;
  assert.equal(progress.add({ kind: 'phase', phase: 'convert', state: 'started' }), true);
  clock.ms = 3000;
  assert.equal(progress.advance('optimizing'), true);
  assert.equal(progress.advance('extracting'), false);
  assert.equal(progress.state, 'optimizing');
  clock.ms = 3500;
  progress.end();
  clock.ms = 9000;
  const durations = (['pulling', 'extracting', 'building', 'optimizing'] as const).map((state) =>
    progress.durationMs(state),
  );
  assert.deepEqual(durations, [1000, 2000, 0, 500]);
});

test('late bytes of a phase that is over change nothing', () => {
  const { progress } = started();
  progress.advance('extracting');
  progress.add(bytes('a', 10, 10));
  assert.deepEqual([progress.state, progress.percent, progress.pulledBytes], ['extracting', 50, 0]);
});

test('what counts backwards or claims no total cannot lower or break the percentage', () => {
  const { progress } = started();
  progress.add(bytes('a', 80, 100));
  progress.add(bytes('a', 10, 100));
  assert.equal(progress.percent, 40);
  progress.add({ kind: 'bytes', phase: 'pull', id: 'b', doneBytes: 0, state: 'running' });
  assert.equal(progress.percent, 40);
});

test('a flood of blob ids is not remembered without bound', () => {
  const { progress } = started();
  for (let i = 0; i < 5000; i += 1) progress.add(bytes(`blob-${i}`, 1, 1));
  assert.equal(progress.pulledBytes, 1024);
});
