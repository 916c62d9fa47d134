import assert from 'node:assert/strict';
import { closeSync, mkdtempDisposableSync, openSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { AnswerWriter } from '../../src/builds/worker/answer-message.ts';
import { readAnswers, type WorkerAnswer } from '../../src/builds/worker/answer-reader.ts';
import { parseAnswer } from '../../src/builds/worker/parse-answer.ts';
import { sha256 } from '../../src/core/digest.ts';
import { BuilderdError, isBuilderdError } from '../../src/core/errors.ts';
import type { ProgressEvent } from '../../src/core/progress.ts';

/** What a worker's end of the channel writes. */
function written(say: (answers: AnswerWriter) => void, nowMs = () => 0): Buffer {
  using dir = mkdtempDisposableSync(path.join(tmpdir(), 'builderd-answers-'));
  const file = path.join(dir.path, 'channel');
  const fd = openSync(file, 'w');
  try {
    say(new AnswerWriter(fd, nowMs));
  } finally {
    closeSync(fd);
  }
  return readFileSync(file);
}

async function read(
  chunks: Iterable<Buffer>,
  events: ProgressEvent[] = [],
  nowMs = () => 0,
): Promise<WorkerAnswer> {
  return await readAnswers(Readable.from(chunks, { objectMode: true }), {
    onProgress: (event) => events.push(event),
    onAnswered: () => undefined,
    nowMs,
  });
}

const DIGEST = sha256('artifact');
const RESULT = {
  artifacts: [{ format: 'ext4' as const, sizeBytes: 4096, digest: DIGEST }],
  metadataText: '{"a": "ä\n"}\n',
  fidelityText: '',
};
const EVENTS: ProgressEvent[] = [
  { kind: 'phase', phase: 'convert', state: 'started' },
  { kind: 'bytes', phase: 'convert', id: DIGEST, doneBytes: 5, totalBytes: 9, state: 'done' },
  { kind: 'notice', level: 'warning', message: 'odd' },
  { kind: 'phase', phase: 'convert', state: 'done', detail: '7 entries' },
];

test('readAnswers() reads what AnswerWriter writes, however the pipe cuts it', async () => {
  const bytes = written((answers) => {
    for (const event of EVENTS) answers.progress(event);
    answers.result(RESULT);
  });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(bytes.length)), async (cuts) => {
      const ends = [...cuts, bytes.length].toSorted((a, b) => a - b);
      let from = 0;
      const chunks = ends.map((end) => bytes.subarray(from, (from = end)));
      const events: ProgressEvent[] = [];
      const answer = await read(chunks, events);
      assert.deepEqual(events, EVENTS);
      assert.deepEqual(answer, {
        kind: 'result',
        artifacts: RESULT.artifacts,
        metadata: Buffer.from(RESULT.metadataText),
        fidelity: Buffer.from(RESULT.fidelityText),
      });
    }),
    { numRuns: 100 },
  );
});

test('readAnswers() gives a worker’s fault with its code', async () => {
  const fault = new BuilderdError('archive.bomb', 'Cannot unpack: too much');
  const bytes = written((answers) => answers.failed(fault));
  assert.deepEqual(await read([bytes]), {
    kind: 'failed',
    code: 'archive.bomb',
    message: 'Cannot unpack: too much',
  });
  assert.deepEqual(await read([]), { kind: 'none' });
});

test('AnswerWriter tells the bytes of layers ten times a second, and 200 notices', async () => {
  let now = 0;
  const bytes = written(
    (answers) => {
      for (let i = 0; i < 1000; i++) {
        now = i;
        answers.progress({
          ...EVENTS[1],
          kind: 'bytes',
          phase: 'convert',
          id: DIGEST,
          doneBytes: i,
          state: 'running',
        });
        answers.progress({ kind: 'notice', level: 'info', message: 'x' });
      }
    },
    () => now,
  );
  const events: ProgressEvent[] = [];
  await read([bytes], events);
  const count = (kind: string): number => events.filter((event) => event.kind === kind).length;
  assert.deepEqual([count('bytes'), count('notice')], [10, 200]);
});

test('readAnswers() lets a slow worker say more than a fast one', async () => {
  const line = Buffer.from(`${JSON.stringify({ kind: 'progress', event: EVENTS[0] })}\n`);
  const lines = Array.from({ length: 3000 }, () => line);
  let now = 0;
  await read(lines, [], () => (now += 10));
  await assert.rejects(read(lines), /floods/);
});

test('parseAnswer() takes any bytes, and throws nothing but typed faults', () => {
  const json = fc.json().map((text) => Buffer.from(text));
  const near = fc
    .record(
      {
        kind: fc.constantFrom('progress', 'failed', 'result'),
        event: fc.jsonValue(),
        code: fc.jsonValue(),
        message: fc.jsonValue(),
        artifacts: fc.jsonValue(),
        metadataBytes: fc.jsonValue(),
        fidelityBytes: fc.jsonValue(),
      },
      { requiredKeys: ['kind'] },
    )
    .map((value) => Buffer.from(JSON.stringify(value)));
  const bytes = fc.uint8Array({ maxLength: 200 }).map((each) => Buffer.from(each));
  fc.assert(
    fc.property(fc.oneof(bytes, json, near), (line) => {
      try {
        const answer = parseAnswer(line);
        if (answer.kind === 'failed') assert.doesNotMatch(answer.message, /[\p{C}\p{Zl}\p{Zp}]/u);
      } catch (reason) {
        assert.ok(isBuilderdError(reason, 'internal'), String(reason));
      }
    }),
    { numRuns: 2000 },
  );
});
