import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { needsRoot, runAsWorker } from '../fixtures/worker-program.ts';

const run = promisify(execFile);
const ROOT = path.resolve(import.meta.dirname, '../..');

test('the launcher does its work under the address and undefined-behaviour sanitizers', {
  skip: needsRoot,
}, async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-sanitized-'));
  await run(process.execPath, ['native/build.ts', '--sanitize', '--out', dir.path], { cwd: ROOT });
  const launcher = path.join(dir.path, 'builderd-launch');
  const idBase = 0x6a00_0000;
  const good = await runAsWorker(`import fs from 'node:fs'; fs.writeSync(4, 'here');`, {
    idBase,
    launcher,
  });
  assert.deepEqual([good.answers, good.errorText], ['here', '']);
  assert.ok(
    good.end.kind === 'ended' && good.end.how === 'exit' && good.end.value === 0,
    JSON.stringify(good.end),
  );
  const killed = await runAsWorker(`process.kill(process.pid, 'SIGKILL');`, { idBase, launcher });
  assert.ok(killed.end.kind === 'ended' && killed.end.how === 'signal' && killed.end.value === 9);
  const root = { mounts: [], program: '/nothing', environment: new Map<string, string>() };
  const refused = await runAsWorker('', { idBase, launcher, root });
  assert.ok(
    refused.end.kind === 'refused' && refused.end.step === 'execve',
    JSON.stringify(refused),
  );
  for (const args of [
    [],
    ['--'],
    ['--env'],
    ['--data', '/'],
    ['--nofile', '99999999999999999999'],
  ]) {
    await assert.rejects(run(launcher, args), { code: 125 });
  }
});

test('the launcher needs no library', async () => {
  const { stdout } = await run('readelf', [
    '-d',
    '-l',
    path.join(ROOT, 'prebuilds', `${process.platform}-${process.arch}`, 'builderd-launch'),
  ]);
  assert.doesNotMatch(stdout, /NEEDED|INTERP/);
});
