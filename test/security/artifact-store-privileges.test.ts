import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { privateDirectory } from '../fixtures/artifact-stores.ts';

/** An id of no account: nogroup's would be shared with others on this host. */
const SERVICE_ID = 64_123;
const skip = process.getuid?.() === 0 ? false : 'host lacks root for this user';

test('a process that gave up root opens artifacts, and can neither add nor remove one', {
  skip,
}, async () => {
  await using home = await privateDirectory();
  await chmod(home.path, 0o755);
  const directory = join(home.path, 'rootfs');
  await mkdir(directory, { mode: 0o750 });
  await chown(directory, 0, SERVICE_ID);
  const program = fileURLToPath(new URL('../fixtures/artifact-reader.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [
    program,
    directory,
    String(SERVICE_ID),
  ]);
  assert.deepEqual(JSON.parse(stdout), {
    uid: SERVICE_ID,
    read: 1000,
    wrote: 'host.permission',
    removed: 'host.permission',
  });
});
