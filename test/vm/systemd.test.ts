import { test } from 'node:test';
import { bootDisk } from '../../contrib/dev/boot.ts';
import { buildDebianDisk, checkExt4 } from './debian-disk.ts';

test('a Debian with systemd reaches its multi-user target', { timeout: 500_000 }, async ({
  signal,
}) => {
  await using debian = await buildDebianDisk({
    include: ['systemd-sysv', 'udev'],
    size: 'min+128M',
    signal,
  });
  await checkExt4(debian.disk, signal);
  await bootDisk({
    disk: debian.disk,
    init: { argv: ['/sbin/init', '--show-status=yes'], env: [] },
    expect: /Reached target.*multi-user/i,
    memoryMiB: 1024,
    timeoutMs: 300_000,
    signal,
  });
});
