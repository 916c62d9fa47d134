import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startTestApi } from '../fixtures/api.ts';
import { ctlUser } from '../fixtures/run-ctl.ts';

const READER_GONE = 141;
const pathOf = (name: string): string =>
  fileURLToPath(new URL(`../../src/cli/${name}.mjs`, import.meta.url));

/** Exit code, and what came over the stream that is still read. */
async function runDeaf(
  name: string,
  args: readonly string[],
  deaf: 'stdout' | 'stderr',
): Promise<readonly [code: number | null, said: string]> {
  const child = spawn(process.execPath, [pathOf(name), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // Before the program has begun.
  child[deaf].destroy();
  const said = text(deaf === 'stdout' ? child.stderr : child.stdout);
  const [code] = (await once(child, 'exit')) as [number | null];
  return [code, await said];
}

for (const name of ['builderctl', 'builderd']) {
  test(`${name} tells of output that could not be written, and ends with 3`, async () => {
    for (const args of ['--help', 'completion bash']) {
      const line = `exec "$0" "$1" ${args} >/dev/full`;
      const child = execFile('bash', ['-c', line, process.execPath, pathOf(name)]);
      const said = child.stderr === null ? '' : text(child.stderr);
      const [code] = (await once(child, 'exit')) as [number | null];
      assert.deepEqual(
        [code, await said],
        [3, 'Cannot write to standard output: ENOSPC: no space left on device, write\n'],
      );
    }
  });

  test(`${name} ends without a word when nobody reads its output, and works on without a reader of its messages`, async () => {
    assert.deepEqual(await runDeaf(name, ['completion', 'bash'], 'stdout'), [READER_GONE, '']);
    assert.deepEqual(await runDeaf(name, ['no-such-command'], 'stderr'), [2, '']);
  });
}

test('a log comes whole and in order, and ends without a word when its reader leaves', async () => {
  await using api = await startTestApi();
  const { token } = await api.tenant('acme');
  const id = await api.build(token);
  const line = randomBytes(20_000).toString('base64');
  await api.log(
    id,
    Array.from({ length: 30 }, () => line),
    { end: true },
  );
  await using user = await ctlUser({ BUILDERCTL_SERVER: api.url, BUILDERCTL_TOKEN: token });
  const { code, stdout, stderr } = await user.run(['logs', '-f', '--json', id]);
  assert.equal(code, 0, stderr);
  const numbers = stdout
    .trimEnd()
    .split('\n')
    .map((each) => Number(Reflect.get(JSON.parse(each) as object, 'n')));
  assert.deepEqual(
    numbers,
    Array.from({ length: 30 }, (_, n) => n),
  );
  const paged = await user.run(['logs', '--json', id]);
  assert.equal(paged.stdout, stdout);

  const cut = user.start(['logs', '-f', '--json', id]);
  const { stdout: pipe } = cut.child;
  if (pipe === null) throw new Error('no pipe');
  await once(pipe, 'data');
  pipe.destroy();
  const end = await cut.ended;
  assert.deepEqual([end.code, end.stderr], [READER_GONE, '']);
});
