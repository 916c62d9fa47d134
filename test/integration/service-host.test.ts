import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import {
  chmod,
  chown,
  copyFile,
  mkdir,
  mkdtempDisposable,
  open,
  readFile,
  rename,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { loadConfig } from '../../src/cli/config.ts';
import type { BuilderdError } from '../../src/core/errors.ts';
import { RunningService } from '../fixtures/running-service.ts';

const run = promisify(execFile);

/** Prints every datagram on a line of its own; Node has no such sockets. */
const RECEIVER = `
  socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die;
  bind($s, pack_sockaddr_un($ARGV[0])) or die;
  $| = 1;
  print "up\\n";
  while (defined recv($s, my $message, 4096, 0)) { $message =~ s/\\n/ /g; print "$message\\n"; }
`;

async function tempDir(): Promise<{ readonly path: string } & AsyncDisposable> {
  const dir = await mkdtempDisposable(path.join(tmpdir(), 'bd-host-'));
  await chmod(dir.path, 0o755);
  return { path: dir.path, [Symbol.asyncDispose]: () => dir.remove() };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}

test('systemd is told of readiness, reloads, the watchdog and the end', async () => {
  await using dir = await tempDir();
  const socket = path.join(dir.path, 'notify');
  const receiver = spawn('perl', ['-MSocket', '-e', RECEIVER, socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const told: string[] = [];
  receiver.stdout
    .setEncoding('utf8')
    .on('data', (text: string) => told.push(...text.split('\n').filter((line) => line !== '')));
  try {
    while (told[0] !== 'up') await sleep(20);
    await using service = await RunningService.start({
      environment: { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '10000000' },
    });
    await service.until(() => told.includes('READY=1'), 'READY=1');
    await service.until(() => told.includes('WATCHDOG=1'), 'WATCHDOG=1');
    service.signal('SIGHUP');
    await service.until(
      () => told.some((line) => /^RELOADING=1 MONOTONIC_USEC=\d+$/.test(line)),
      'RELOADING=1',
    );
    await service.until(
      () => told.filter((line) => line === 'READY=1').length === 2,
      'READY=1 again',
    );
    assert.equal(await service.stop(), 0);
    assert.ok(told.includes('STOPPING=1'));
  } finally {
    receiver.kill();
    await once(receiver, 'exit');
  }
});

test('a service whose standard output nobody reads still serves and ends', async () => {
  await using dir = await tempDir();
  const fifo = path.join(dir.path, 'stdout');
  await run('mkfifo', [fifo]);
  const fd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    assert.throws(
      () => {
        for (;;) writeSync(fd, Buffer.alloc(4096));
      },
      { code: 'EAGAIN' },
    );
    // What the service gets blocks, as a pipe of the shell does.
    const stdout = openSync(fifo, constants.O_WRONLY);
    const port = await freePort();
    await using service = await RunningService.launch({ stdout, settings: { PORT: String(port) } });
    closeSync(stdout);
    const health = async (): Promise<boolean> =>
      fetch(`http://127.0.0.1:${port}/health`).then(
        (answer) => answer.ok,
        () => false,
      );
    await service.until(health, 'health');
    for (let request = 0; request < 50; request += 1)
      await fetch(`http://127.0.0.1:${port}/v1/builds`);
    assert.ok(await health());
    assert.equal(await service.stop(), 0);
  } finally {
    closeSync(fd);
  }
});

test('H7: settings that others than root may write are not even read', async () => {
  await using dir = await tempDir();
  const file = path.join(dir.path, 'builderd.env');
  // Whoever parses it says something else.
  await writeFile(file, 'UNKEY_BUILDERD_NO_SUCH_SETTING=1\n', { mode: 0o640 });
  const refused = (fact: RegExp, name = file): void =>
    assert.throws(
      () => loadConfig(name),
      (reason: BuilderdError) => reason.code === 'config.invalid' && fact.test(reason.message),
    );
  refused(/there is no such setting/);
  await chmod(file, 0o646);
  refused(/: everybody may write it; want root:root 0640/);
  await chmod(file, 0o660);
  await chown(file, 0, 65_534);
  refused(/: its group may write it/);
  await chmod(file, 0o640);
  await chown(file, 12_345, 0);
  refused(/: it does not belong to root/);
  await chown(file, 0, 0);
  const link = path.join(dir.path, 'link.env');
  await symlink(file, link);
  refused(/: it is a symbolic link/, link);
  refused(/: it is no file/, dir.path);
  // Not only the directory that holds it: whoever may rename one above may exchange it.
  const deep = path.join(dir.path, 'a', 'b');
  await mkdir(deep, { recursive: true });
  const below = path.join(deep, 'builderd.env');
  await writeFile(below, 'UNKEY_BUILDERD_PORT=1\n');
  assert.equal(loadConfig(below).settings.PORT, 1);
  await chown(path.join(dir.path, 'a'), 65_534, 0);
  refused(new RegExp(`: of ${dir.path}/a, it does not belong to root`), below);
  await chown(path.join(dir.path, 'a'), 0, 0);
  await chmod(path.join(dir.path, 'a'), 0o777);
  refused(new RegExp(`: of ${dir.path}/a, everybody may write it`), below);
  // As /tmp: nobody takes away what is root's.
  await chmod(path.join(dir.path, 'a'), 0o1777);
  assert.equal(loadConfig(below).settings.PORT, 1);
});

test('a file that the environment overrides is told of', async () => {
  await using service = await RunningService.start({
    settings: { AUTH_MODE: 'development', LOG_LEVEL: 'debug' },
    environment: { UNKEY_BUILDERD_LOG_LEVEL: 'info' },
    args: ['--role', 'api'],
  });
  const told = service.find('The environment overrides settings of the file');
  assert.deepEqual(
    told.map(({ setting }) => setting),
    ['LOG_LEVEL'],
  );
});

async function makeCertificate(dir: string, name: string): Promise<void> {
  await run('openssl', [
    ...[
      'req',
      '-x509',
      '-nodes',
      '-days',
      '2',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
    ],
    ...[
      '-keyout',
      path.join(dir, `${name}.key`),
      '-out',
      path.join(dir, `${name}.pem`),
      '-subj',
      `/CN=${name}`,
    ],
  ]);
}

async function servedName(url: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { subject } = socket.getPeerCertificate();
  socket.destroy();
  return String(subject.CN);
}

/** Whether a process has these bytes anywhere in what it may write. */
async function memoryHolds(pid: number, text: string): Promise<boolean> {
  const wanted = Buffer.from(text);
  const maps = await readFile(`/proc/${pid}/maps`, 'latin1');
  await using memory = await open(`/proc/${pid}/mem`);
  for (const [, from = '', to = ''] of maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw/gm)) {
    const end = Number.parseInt(to, 16);
    for (let at = Number.parseInt(from, 16); at < end; at += PIECE) {
      const length = Math.min(PIECE + wanted.length, end - at);
      const piece = Buffer.alloc(length);
      // The heap may shrink meanwhile.
      const { bytesRead } = await memory.read(piece, 0, length, at).catch(() => ({ bytesRead: 0 }));
      if (piece.subarray(0, bytesRead).includes(wanted)) return true;
    }
  }
  return false;
}

const PIECE = 4 * 1024 * 1024;

test('a reload changes the certificate, and a broken one changes nothing', async () => {
  await using dir = await tempDir();
  for (const name of ['first', 'second']) await makeCertificate(dir.path, name);
  const use = async (name: string): Promise<void> => {
    for (const kind of ['key', 'pem'])
      await copyFile(path.join(dir.path, `${name}.${kind}`), path.join(dir.path, `used.${kind}`));
  };
  await use('first');
  // Only root may read the key: the service user gets its content, not the file.
  await chmod(path.join(dir.path, 'used.key'), 0o600);
  const settings = {
    TLS_MODE: 'file',
    TLS_CERT_FILE: path.join(dir.path, 'used.pem'),
    TLS_KEY_FILE: path.join(dir.path, 'used.key'),
  };
  await using service = await RunningService.start({ settings });
  assert.match(service.apiUrl, /^https:/);
  assert.equal(await servedName(service.apiUrl), 'first');

  await use('second');
  service.signal('SIGHUP');
  await service.until(
    () => service.find('Applied the reloaded settings', { role: 'api' }).length === 1,
    'the reload',
  );
  assert.equal(await servedName(service.apiUrl), 'second');
  // The process that works on images has never heard of it.
  const [, line = ''] = (await readFile(settings.TLS_KEY_FILE, 'utf8')).split('\n');
  const pidOf = (role: string): number =>
    Number(service.find('Started a role', { role })[0]?.['pid']);
  assert.equal(await memoryHolds(pidOf('api'), line), true);
  assert.equal(await memoryHolds(pidOf('executor'), line), false);

  // A key that does not fit its certificate.
  await copyFile(path.join(dir.path, 'first.key'), path.join(dir.path, 'used.key'));
  service.signal('SIGHUP');
  await service.until(
    () => service.find('Cannot reload: the old settings stay').length === 1,
    'the refusal',
  );
  assert.equal(await servedName(service.apiUrl), 'second');
  assert.doesNotMatch(service.output, /PRIVATE KEY/);
});

test('a log file that was rotated away is opened anew by a reload', async () => {
  await using dir = await tempDir();
  // Where the service user may make files, as in /var/log/builderd.
  await chmod(dir.path, 0o777);
  const file = path.join(dir.path, 'builderd.log');
  await using service = await RunningService.launch({ settings: { LOG_FILE: file } });
  const text = (name: string): Promise<string> => readFile(name, 'utf8').catch(() => '');
  await service.until(
    async () => (await text(file)).split('"A role is ready"').length === 3,
    'both roles',
  );
  assert.equal(service.output, '');
  await rename(file, `${file}.1`);
  service.signal('SIGHUP');
  await service.until(
    async () => (await text(file)).split('"Applied the reloaded settings"').length === 3,
    'the new file',
  );
  assert.equal(await service.stop(), 0);
  assert.match(await text(file), /"The service has ended"/);
});
