import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readInitSetting } from '../../src/cli/guest-init.ts';

const soon = { signal: AbortSignal.timeout(30_000) };

test('a service whose init is not a file does not start, and is told which setting says so', async () => {
  assert.deepEqual(await readInitSetting('', soon), {});
  const { guestInit } = await readInitSetting(import.meta.filename, soon);
  assert.match(String(guestInit), /whose init is not a file/);
  for (const [path, fact] of [
    ['/', /it is not a regular file$/],
    ['/none', /ENOENT/],
    ['/dev/null', /it is not a regular file$/],
  ] as const) {
    await assert.rejects(readInitSetting(path, soon), {
      code: 'config.invalid',
      message: new RegExp(`^Cannot use UNKEY_BUILDERD_GUEST_INIT "${path}": .*${fact.source}`),
    });
  }
});
