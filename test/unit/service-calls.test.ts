import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { loadAddon } from '../../native/addon.ts';

const addon = loadAddon();
const skip = addon === undefined ? 'the addon is not built' : false;
const ADDON = path.resolve(import.meta.dirname, '../../native/addon.ts');

/** In a process of its own: the flag can never be taken back. */
const PROGRAM = `
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { loadAddon } from ${JSON.stringify(ADDON)};
const flags = () => readdirSync('/proc/self/task').map((task) =>
  /^NoNewPrivs:\\t(\\d)$/m.exec(readFileSync('/proc/self/task/' + task + '/status', 'utf8'))[1]);
const before = flags();
loadAddon().setNoNewPrivs();
console.log(JSON.stringify({ before, after: flags() }));
`;

test('setNoNewPrivs() reaches every thread of the process', { skip }, async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '-e',
    PROGRAM,
  ]);
  const { before, after }: { before: string[]; after: string[] } = JSON.parse(stdout);
  assert.ok(before.length > 3, `only ${before.length} threads`);
  assert.ok(
    after.every((flag) => flag === '1'),
    after.join(),
  );
});

/** Prints the one datagram that comes to the address; Node has no such sockets. */
const RECEIVER = `
  socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die;
  (my $name = $ARGV[0]) =~ s/^@/\\0/;
  bind($s, pack_sockaddr_un($name)) or die;
  $| = 1;
  print "up\\n";
  recv($s, my $message, 4096, 0);
  print $message;
`;

for (const kind of ['a path', 'an abstract name'] as const) {
  test(`sdNotify() sends one datagram to ${kind}`, { skip }, async () => {
    await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-notify-'));
    const name = kind === 'a path' ? path.join(dir.path, 'notify') : `@${path.basename(dir.path)}`;
    const receiver = spawn('perl', ['-MSocket', '-e', RECEIVER, name], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let received = '';
    for await (const chunk of receiver.stdout) {
      received += String(chunk);
      if (received === 'up\n') addon?.sdNotify(Buffer.from(name), Buffer.from('READY=1\nPID=7'));
    }
    assert.equal(received, 'up\nREADY=1\nPID=7');
  });
}

test('sdNotify() refuses what is no socket address', { skip }, () => {
  const message = Buffer.from('READY=1');
  for (const name of ['', '/', 'relative', '@', `/${'x'.repeat(200)}`, '/a\0b']) {
    assert.throws(() => addon?.sdNotify(Buffer.from(name), message), RangeError, name);
  }
  assert.throws(() => addon?.sdNotify(Buffer.from('/nowhere/socket'), message), { code: 'ENOENT' });
  assert.throws(() => addon?.sdNotify(Buffer.from('@builderd-nobody'), message), {
    code: 'ECONNREFUSED',
  });
});
