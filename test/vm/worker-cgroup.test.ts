import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { bootHost } from '../../contrib/dev/boot.ts';

const GUEST = resolve(import.meta.dirname, 'worker-in-guest.ts');

test('a worker starts in its cgroup, is charged to it and dies of its limit', {
  timeout: 600_000,
}, async ({ signal }) => {
  const script = `mount -t cgroup2 none /sys/fs/cgroup && mount -t tmpfs run /run && mkdir /run/tmp
${process.execPath} ${GUEST} || echo "FAILED: $?"
echo o >/proc/sysrq-trigger; sleep 60`;
  const console: string[] = [];
  const { line } = await bootHost({
    init: {
      argv: ['/bin/sh', '-c', script],
      env: [`PATH=${process.env['PATH'] ?? ''}`, 'HOME=/root', 'TMPDIR=/run/tmp'],
    },
    expect: /^(?:CHARGED|FAILED)/,
    onLine: (text) => void console.push(text),
    memoryMiB: 3072,
    timeoutMs: 500_000,
    signal,
  });
  // What went wrong is told by the guest alone.
  assert.equal(line, 'CHARGED', console.slice(-60).join('\n'));
});
