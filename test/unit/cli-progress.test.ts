import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import type { ProgressEvent } from '../../src/core/progress.ts';
import { createJsonView } from '../../src/cli/progress/json-view.ts';
import { paintFrame } from '../../src/cli/progress/paint.ts';
import { createPlainView } from '../../src/cli/progress/plain-view.ts';
import {
  applyProgress,
  emptyProgress,
  phaseTotals,
  type ProgressState,
} from '../../src/cli/progress/progress-state.ts';
import { createTerminalView } from '../../src/cli/progress/terminal-view.ts';

const ID = `sha256:${'0123456789abcdef'.repeat(4)}`;
const EVENTS: readonly ProgressEvent[] = [
  { kind: 'phase', phase: 'pull', state: 'started' },
  { kind: 'bytes', phase: 'pull', id: ID, doneBytes: 0, totalBytes: 2048, state: 'running' },
  { kind: 'bytes', phase: 'pull', id: 'small', doneBytes: 10, state: 'reused' },
  { kind: 'bytes', phase: 'pull', id: ID, doneBytes: 1024, state: 'running' },
  { kind: 'notice', level: 'warning', message: 'odd\nimage\u001b[2J' },
  { kind: 'bytes', phase: 'pull', id: ID, doneBytes: 2048, state: 'done' },
  { kind: 'phase', phase: 'pull', state: 'done', detail: 'two blobs' },
];

function stateAfter(count: number): ProgressState {
  const state = emptyProgress();
  EVENTS.slice(0, count).forEach((event, index) => applyProgress(state, event, index * 1000));
  return state;
}

function recorder(): { text: string; write(text: string): void; columns?: number; rows?: number } {
  return {
    text: '',
    write(text: string) {
      this.text += text;
    },
  };
}

/** What a terminal of any size shows after all these writes: lines from the top. */
function screenOf(text: string): string[] {
  const lines = [''];
  let row = 0;
  // oxlint-disable-next-line no-control-regex -- this is a terminal
  for (const [part] of text.matchAll(/\u001b\[\??\d*[a-zA-Z]|\n|\r|[^\u001b\n\r]+/g)) {
    const up = /^\u001b\[(\d+)A$/.exec(part);
    if (part === '\n') row += 1;
    else if (up !== null) row -= Number(up[1]);
    else if (part.endsWith('[J')) lines.length = row;
    else if (!part.startsWith('\u001b') && part !== '\r') lines[row] = part;
  }
  return lines;
}

test('phaseTotals() counts running, done and reused bytes', () => {
  const totals = (count: number): unknown => {
    const phase = stateAfter(count).phases.get('pull');
    assert.ok(phase !== undefined);
    return phaseTotals(phase);
  };
  assert.deepEqual(totals(4), {
    doneBytes: 1034,
    totalBytes: 2058,
    movedBytes: 1024,
    doneItems: 1,
    items: 2,
  });
  assert.deepEqual(totals(7), {
    doneBytes: 2058,
    totalBytes: 2058,
    movedBytes: 2048,
    doneItems: 2,
    items: 2,
  });
});

test('createPlainView() writes one line per phase, finished blob and notice', () => {
  const out = recorder();
  let now = 0;
  const view = createPlainView(out, () => now);
  for (const event of EVENTS) {
    view.onProgress(event);
    now += 500;
  }
  view.stop();
  view.onProgress({ kind: 'notice', level: 'info', message: 'too late' });
  assert.deepEqual(out.text.split('\n'), [
    'Pulling what is missing',
    '  small 10 B already there',
    'warning: odd\\x0aimage\\x1b[2J',
    '  sha256:0123456789ab 2.0 KiB done',
    'Pull done in 3.0 s, 2.0 KiB: two blobs',
    '',
  ]);
});

test('createJsonView() writes one object per event', () => {
  const out = recorder();
  const view = createJsonView(out, () => 5);
  for (const event of EVENTS) view.onProgress(event);
  view.stop();
  const lines = out.text
    .trim()
    .split('\n')
    .map((line): unknown => JSON.parse(line));
  assert.deepEqual(
    lines,
    EVENTS.map((event) => ({ type: 'progress', atMs: 0, ...event })),
  );
});

test('paintFrame() never draws wider or taller than the terminal', () => {
  const state = emptyProgress();
  for (let i = 0; i < 40; i += 1) {
    const id = `sha256:${String(i).padStart(64, '0')}`;
    const event = { kind: 'bytes', phase: 'convert', id, doneBytes: i, state: 'running' } as const;
    applyProgress(state, i % 2 === 0 ? event : { ...event, totalBytes: 40 }, 0);
  }
  applyProgress(
    state,
    { kind: 'phase', phase: 'convert', state: 'started', detail: 'x'.repeat(500) },
    0,
  );
  for (const columns of [20, 40, 80, 200]) {
    for (const rows of [4, 10, 24, 100]) {
      const paint = (_format: string, text: string): string => text;
      const frame = paintFrame(state, { nowMs: 99, columns, rows, paint, rate: 1e9, final: false });
      assert.ok(frame.length < rows, `${frame.length} lines in ${rows} rows`);
      for (const line of frame) assert.ok(line.length <= columns, `${columns}: ${line}`);
    }
  }
});

test('createTerminalView() repaints in place and leaves the last state and the cursor', () => {
  mock.timers.enable({ apis: ['setInterval'] });
  try {
    const out = Object.assign(recorder(), { columns: 80, rows: 24 });
    const atExit: (() => void)[] = [];
    let now = 0;
    const view = createTerminalView(out, {
      nowMs: () => now,
      paint: (_format, text) => text,
      atExit: (run) => atExit.push(run),
    });
    for (const event of EVENTS.slice(0, 5)) {
      view.onProgress(event);
      now += 1000;
      mock.timers.tick(1000);
    }
    const during = screenOf(out.text);
    assert.equal(during[0], 'warning: odd\\x0aimage\\x1b[2J');
    assert.match(during[1] ?? '', /Pull +1\/2 {2}1\.0 KiB of 2\.0 KiB .*\/s/);
    assert.match(during[2] ?? '', /sha256:0123456789ab +━+─+ +1\.0 KiB \/ 2\.0 KiB/);
    assert.equal(during.length, 3);

    for (const event of EVENTS.slice(5)) view.onProgress(event);
    for (const run of atExit) run();
    view.stop();
    const after = screenOf(out.text);
    assert.equal(after.length, 2);
    assert.match(after[1] ?? '', /✔ Pull +2\/2 {2}2\.0 KiB {2}\d.* two blobs/);
    assert.equal(out.text.startsWith('\u001b[?25l'), true);
    assert.equal(out.text.endsWith('\u001b[?25h'), true);
    assert.equal(out.text.split('\u001b[?25h').length, 2);
    const silent = out.text.length;
    mock.timers.tick(1000);
    assert.equal(out.text.length, silent);
  } finally {
    mock.timers.reset();
  }
});

test('createTerminalView() marks what was under way when the build stopped', () => {
  const out = recorder();
  const view = createTerminalView(out, {
    nowMs: () => 0,
    paint: (_format, text) => text,
    atExit: () => undefined,
  });
  for (const event of EVENTS.slice(0, 4)) view.onProgress(event);
  view.stop();
  assert.deepEqual(
    screenOf(out.text).map((line) => line.replace(/ +/g, ' ')),
    ['✘ Pull 1/2 1.0 KiB of 2.0 KiB 0 ms'],
  );
});
