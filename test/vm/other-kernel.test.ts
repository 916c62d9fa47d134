import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { bootHost } from '../../contrib/dev/boot.ts';
import { buildDebianDisk, digestOf } from './debian-disk.ts';

const GUEST = resolve(import.meta.dirname, 'build-in-guest.ts');

test('another kernel, with unified cgroups, builds the same bytes', { timeout: 900_000 }, async ({
  signal,
}) => {
  await using debian = await buildDebianDisk({ size: 'min', signal });
  const script = `mount -t cgroup2 none /sys/fs/cgroup && mount -t tmpfs run /run && mkdir /run/tmp
${process.execPath} ${GUEST} ${debian.layoutDir} || echo "FAILED: $?"
echo o >/proc/sysrq-trigger; sleep 60`;
  const { line } = await bootHost({
    init: {
      argv: ['/bin/sh', '-c', script],
      env: [`PATH=${process.env['PATH'] ?? ''}`, 'HOME=/root', 'TMPDIR=/run/tmp'],
    },
    expect: /^(?:DIGEST|FAILED)/,
    memoryMiB: 4096,
    timeoutMs: 600_000,
    signal,
  });
  assert.equal(line, `DIGEST ${await digestOf(debian.disk)}`);
});
