import assert from 'node:assert/strict';
import { truncate } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { bootDisk } from '../../contrib/dev/boot.ts';
import {
  buildDebianDisk,
  checkExt4,
  type DebianDisk,
  digestOf,
  scriptInit,
} from './debian-disk.ts';

const BOOT_LIMIT_MS = 300_000;
const LIMIT = { timeout: 400_000 };
let debian: DebianDisk;

before(async () => {
  const signal = AbortSignal.timeout(180_000);
  debian = await buildDebianDisk({ include: ['e2fsprogs', 'attr'], size: 'min+64M', signal });
});
after(() => debian[Symbol.asyncDispose]());

async function runIn(
  disk: string,
  script: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const { lines } = await bootDisk({
    disk,
    init: scriptInit(script),
    expect: /^DONE$/,
    untilPowerOff: true,
    writeThrough: true,
    timeoutMs: BOOT_LIMIT_MS,
    signal,
  });
  return lines;
}

test('a disk boots with a read-only root and is not changed by it', LIMIT, async ({ signal }) => {
  const digest = await digestOf(debian.disk);
  const init = { argv: ['sh', '-c', 'touch /x || echo the root is read-only'], env: ['PATH=/bin'] };
  const expect = 'the root is read-only';
  await bootDisk({
    disk: debian.disk,
    init,
    expect,
    readOnly: true,
    timeoutMs: BOOT_LIMIT_MS,
    signal,
  });
  assert.equal(await digestOf(debian.disk), digest);
});

test(
  'a guest creates, renames, links and removes, and the disk stays sound',
  LIMIT,
  async ({ signal }) => {
    const disk = await debian.copy('writes.ext4');
    await runIn(
      disk,
      `mkdir -p /new/deep/deeper
i=0; while [ $i -lt 3000 ]; do echo $i > /new/file-with-a-rather-long-name-$i; i=$((i + 1)); done
ln /new/file-with-a-rather-long-name-1 /usr/hard; ln -s "$(printf '%0200d' 7)" /usr/long-link
mv /usr/share/zoneinfo /new/moved || mv /usr/share/doc /new/moved
rm -r /usr/share/man /usr/share/locale /new/moved
setfattr -n user.big -v "$(printf '%02000d' 3)" /new/file-with-a-rather-long-name-2
truncate -s 1G /new/sparse; echo end >> /new/sparse`,
      signal,
    );
    await checkExt4(disk, signal);
  },
);

test('a guest fills the disk to the last block and empties it again', LIMIT, async ({ signal }) => {
  const disk = await debian.copy('full.ext4');
  await runIn(
    disk,
    `! dd if=/dev/zero of=/full bs=1M 2>/dev/null; ! dd if=/dev/zero of=/rest bs=4k 2>/dev/null
stat -fc 'free blocks: %a' /; sync; rm /full; echo more > /again`,
    signal,
  );
  await checkExt4(disk, signal);
});

test('a mounted disk grows', LIMIT, async ({ signal }) => {
  const disk = await debian.copy('grow.ext4');
  await truncate(disk, 3 * 1024 ** 3);
  const script = `resize2fs /dev/vda 2>&1
head -c 400M /dev/zero > /filled; echo "size: $(stat -fc '%b*%S' /)"`;
  const lines = await runIn(disk, script, signal);
  const [, blocks, size] = /size: (\d+)\*(\d+)/.exec(lines.join('\n')) ?? [];
  assert.ok(Number(blocks) * Number(size) > 2.8 * 1024 ** 3, `${blocks} blocks of ${size}`);
  await checkExt4(disk, signal);
});
