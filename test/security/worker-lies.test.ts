import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConvertCall } from '../../src/builds/worker/converter.ts';
import { type BuilderdError, isBuilderdError } from '../../src/core/errors.ts';
import { convertJob } from '../fixtures/convert-job.ts';
import { layerOf } from '../fixtures/memory-layer.ts';
import { processesOf } from '../fixtures/processes-of.ts';
import { rawEnd, rawFile } from '../fixtures/raw-tar.ts';
import { codeRootWith, converterIn, needsRoot } from '../fixtures/worker-program.ts';

/** What an honest worker has at hand; `HONEST` answers for it, with overrides. */
const PRELUDE = `
import fs from 'node:fs';
const input = fs.readFileSync(0);
const job = JSON.parse(input.subarray(0, input.indexOf(10)).toString());
const say = (value) => fs.writeSync(4, typeof value === 'string' ? value : JSON.stringify(value) + '\\n');
const DIGEST = 'sha256:' + 'a'.repeat(64);
const honest = (over = {}) => {
  fs.writeSync(job.outputs[0].fd, 'disk');
  const artifacts = [{ format: 'ext4', sizeBytes: 4, digest: DIGEST }];
  const source = { reference: job.image.reference, digest: job.image.target.digest };
  const described = { schema: 'builderd.metadata.v1', source, artifacts, labels: {}, env: {}, command: [],
    entrypoint: [], working_dir: '/', exposed_ports: [], user: '0:0', volumes: [],
    config: { Cmd: [], Entrypoint: [], WorkingDir: '/', Env: [], ExposedPorts: [] }, ...over.described };
  const metadata = over.metadata ?? JSON.stringify(described);
  const fidelity = over.fidelity ?? JSON.stringify({ schema: 'builderd.fidelity.v1', source });
  say({ kind: 'result', artifacts, metadataBytes: Buffer.byteLength(metadata),
    fidelityBytes: Buffer.byteLength(fidelity), ...over.result });
  say(metadata);
  say(fidelity);
};
`;

let used = 0;

/** Runs one conversion by this worker; asserts that nothing of it is left. */
async function convertBy(
  program: string,
  more: Partial<ConvertCall> = {},
): Promise<{ readonly fault: BuilderdError | undefined; readonly size: number }> {
  // Ids of this file and process alone, to find what is left over.
  const idBase = 0x6e00_0000 + 65_536 * (used++ % 100);
  await using layer = await layerOf(Buffer.concat([rawFile('hello', { name: 'a' }), rawEnd()]));
  await using fixture = await convertJob([layer]);
  await using code = await codeRootWith(`${PRELUDE}\n${program}`);
  const reason: unknown = await converterIn(code.path)
    .convert(fixture.job, {
      signal: AbortSignal.timeout(30_000),
      onProgress: () => undefined,
      idBase,
      ...more,
    })
    .then(
      () => undefined,
      (fault: unknown) => fault,
    );
  assert.deepEqual(processesOf(idBase + 65_530), []);
  assert.ok(reason === undefined || isBuilderdError(reason), String(reason));
  return { fault: reason, size: (await fixture.read('ext4')).length };
}

test('an answer as an honest worker gives it is taken', { skip: needsRoot }, async () => {
  const { fault, size } = await convertBy('honest();');
  assert.equal(fault, undefined);
  assert.equal(size, 4);
});

const LIES: [string, string, RegExp][] = [
  ['rubbish', `fs.writeSync(4, Buffer.alloc(5000, 0xfe)); say('\\n');`, /not UTF-8/],
  ['no JSON', `say('hello\\n');`, /not strict JSON/],
  ['a key twice', `say('{"kind":"failed","kind":"result"}\\n');`, /not strict JSON/],
  ['JSON without end', `say('['.repeat(10000) + '\\n');`, /nested deeper/],
  [
    'a line without end',
    `for (;;) fs.writeSync(4, Buffer.alloc(65536, 'x'));`,
    /more than 16384 bytes/,
  ],
  [
    'a flood of lines',
    `for (;;) say({ kind: 'progress', event: { kind: 'phase', phase: 'convert', state: 'done' } });`,
    /floods the channel/,
  ],
  ['a flood on stderr', `for (;;) fs.writeSync(2, 'x'.repeat(65536));`, /SIGKILL|ended/],
  ['an unknown kind', `say({ kind: 'exec', argv: ['sh'] });`, /no known kind/],
  [
    'progress of a phase that is not its own',
    `say({ kind: 'progress', event: { kind: 'phase', phase: 'commit', state: 'done' } });`,
    /unknown phase/,
  ],
  [
    'progress without a layer',
    `say({ kind: 'progress', event: { kind: 'bytes', phase: 'convert', state: 'done', id: '../../etc', doneBytes: 1 } });`,
    /no layer/,
  ],
  [
    'negative progress',
    `say({ kind: 'progress', event: { kind: 'bytes', phase: 'convert', state: 'done', id: DIGEST, doneBytes: -1 } });`,
    /out of range/,
  ],
  ['nothing', ``, /ended without one/],
  [
    'a result of another size',
    `honest({ result: { artifacts: [{ format: 'ext4', sizeBytes: 5, digest: DIGEST }] } });`,
    /has 4 bytes, it says 5/,
  ],
  [
    'a result of another format',
    `honest({ result: { artifacts: [{ format: 'tar', sizeBytes: 4, digest: DIGEST }] } });`,
    /has 4 bytes/,
  ],
  ['a result without artifacts', `honest({ result: { artifacts: [] } });`, /artifacts are missing/],
  [
    'a digest that is none',
    `honest({ result: { artifacts: [{ format: 'ext4', sizeBytes: 4, digest: 'sha256:../..' }] } });`,
    /digest of an artifact is none/,
  ],
  ['a document too large', `honest({ result: { metadataBytes: 1e12 } });`, /out of range/],
  [
    'a document cut short',
    `honest({ result: { fidelityBytes: 100000 } });`,
    /ends within a document/,
  ],
  ['something behind the result', `honest(); say({ kind: 'failed' });`, /follows its last line/],
  [
    'a second answer',
    `say({ kind: 'failed', code: 'internal', message: '' }); honest();`,
    /follows its last line/,
  ],
  ['metadata that is no JSON', `honest({ metadata: '{' });`, /not strict JSON/],
  ['metadata of other artifacts', `honest({ described: { artifacts: [] } });`, /other artifacts/],
  [
    'metadata of another image',
    `honest({ described: { source: { reference: 'evil', digest: DIGEST } } });`,
    /another image/,
  ],
  [
    'metadata with wrong types',
    `honest({ described: { labels: ['a'] } });`,
    /labels is not an object/,
  ],
  [
    'metadata with a text too long',
    `honest({ described: { user: 'x'.repeat(200000) } });`,
    /user is not a text/,
  ],
  ['fidelity that is no JSON', `honest({ fidelity: 'null' });`, /not of the schema/],
  ['a good result and then silence', `honest(); setInterval(() => {}, 1000);`, /SIGKILL|ended/],
  ['an exit status', `process.exit(3);`, /status 3/],
  [
    'a death by a signal',
    `process.kill(process.pid, 'SIGSEGV'); setInterval(() => {}, 1000);`,
    /SIGSEGV/,
  ],
  ['a good result and a bad end', `honest(); process.exit(1);`, /status 1/],
];

for (const [name, program, message] of LIES) {
  test(`a worker that answers with ${name} is a fault of the platform`, {
    skip: needsRoot,
  }, async () => {
    const { fault } = await convertBy(program);
    assert.equal(fault?.code, 'internal', String(fault));
    assert.match(fault.message, message);
  });
}

test('what a worker says last reaches nobody’s terminal as it is', {
  skip: needsRoot,
}, async () => {
  const program = String.raw`fs.writeSync(2, '\x1b]0;owned\x07\u2028' + 'y'.repeat(1000)); process.exit(7);`;
  const { fault } = await convertBy(program);
  assert.ok(fault !== undefined);
  assert.doesNotMatch(fault.message, /[\p{C}\u2028]/u);
  assert.ok(fault.message.length < 500);
});

test('a worker may blame the image, but only with codes and texts that are harmless', {
  skip: needsRoot,
}, async () => {
  const failed = (code: string): string =>
    `say({ kind: 'failed', code: '${code}', message: 'bad\\u001b[2J\\nthing' });`;
  const honest = await convertBy(failed('archive.bomb'));
  assert.deepEqual(
    [honest.fault?.code, honest.fault?.message],
    ['archive.bomb', 'bad\\x1b[2J\\x0athing'],
  );
  for (const code of [
    'quota.exceeded',
    'build.cancelled',
    'toString',
    '__proto__',
    'database.schema',
  ]) {
    const { fault } = await convertBy(failed(code));
    assert.equal(fault?.code, 'internal', code);
  }
});

test('a worker that needs more heap than it may is out of memory', {
  skip: needsRoot,
}, async () => {
  const program = `const kept = []; for (;;) kept.push(new Array(1000).fill({}).map(() => ({ a: Math.random() })));`;
  const { fault } = await convertBy(program, { maxHeapBytes: 64 * 1024 ** 2 });
  assert.equal(fault?.code, 'build.oom', String(fault));
});

const HANGS: [string, string][] = [
  ['does nothing', `setInterval(() => {}, 1000);`],
  [
    'ignores every signal',
    `for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(name, () => {}); for (;;);`,
  ],
  ['has closed its channel', `fs.closeSync(4); setInterval(() => {}, 1000);`],
  [
    'has children',
    `const { spawn } = await import('node:child_process'); spawn('/builderd/node', ['-e', 'for(;;);'], { detached: true }); for (;;);`,
  ],
];

for (const [name, program] of HANGS) {
  test(`a cancel ends a worker that ${name}`, { skip: needsRoot }, async () => {
    const controller = new AbortController();
    const announce = `say({ kind: 'progress', event: { kind: 'notice', level: 'info', message: 'up' } });`;
    const { fault } = await convertBy(announce + program, {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    assert.equal(fault?.code, 'build.cancelled');
  });
}

test('a fault in a progress listener ends the worker and is thrown', {
  skip: needsRoot,
}, async () => {
  const announce = `say({ kind: 'progress', event: { kind: 'notice', level: 'info', message: 'up' } }); for (;;);`;
  const reason = await convertBy(announce, {
    onProgress: () => {
      throw new TypeError('listener');
    },
  }).then(
    () => undefined,
    (fault: unknown) => fault,
  );
  assert.match(String(reason), /listener/);
});
