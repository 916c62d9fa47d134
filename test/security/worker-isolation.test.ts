import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, mkdtempDisposable, open, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { FIRST_HANDED_FD } from '../../src/builds/worker/launcher.ts';
import { privilegesLeft } from '../../src/builds/worker/privileges-left.ts';
import { processesOf } from '../fixtures/processes-of.ts';
import { needsRoot, runAsWorker } from '../fixtures/worker-program.ts';

const ID_BASE = 0x6f00_0000;
const WORKER_ID = ID_BASE + 65_530;

/** Runs the body of a function inside; it gives an object, which comes back as JSON. */
async function probe<T>(body: string, options: object = {}): Promise<T> {
  const program = `
    import fs from 'node:fs';
    import net from 'node:net';
    import os from 'node:os';
    import { spawnSync, spawn } from 'node:child_process';
    const attempt = (work) => { try { work(); return 'done'; } catch (reason) { return reason.code; } };
    const found = await (async () => { ${body} })();
    fs.writeSync(4, JSON.stringify(found));
    process.exit(0);
  `;
  const run = await runAsWorker(program, { idBase: ID_BASE, ...options });
  assert.equal(run.end.kind, 'ended', JSON.stringify(run));
  assert.notEqual(run.answers, '', run.errorText);
  return JSON.parse(run.answers) as T;
}

test('a worker has an id of its own, no capability and no way to get one', {
  skip: needsRoot,
}, async () => {
  const { status, oom, limits, hostname, environment } = await probe<Record<string, string>>(`
    return {
      status: fs.readFileSync('/proc/self/status', 'utf8'),
      oom: fs.readFileSync('/proc/self/oom_score_adj', 'utf8'),
      limits: fs.readFileSync('/proc/self/limits', 'utf8'),
      hostname: os.hostname(),
      environment: Object.keys(process.env).join(),
    };
  `);
  assert.ok(status !== undefined && limits !== undefined);
  assert.deepEqual(privilegesLeft(status), []);
  assert.match(status, new RegExp(`^Uid:(\\t${WORKER_ID}){4}$`, 'm'));
  assert.match(status, new RegExp(`^Gid:(\\t${WORKER_ID}){4}$`, 'm'));
  assert.equal(oom?.trim(), '500');
  assert.equal(hostname, 'builderd');
  assert.equal(environment, 'LD_LIBRARY_PATH');
  assert.match(limits, /^Max core file size +0 +0 /m);
  assert.match(limits, /^Max file size +1048576 +1048576 /m);
  assert.match(limits, /^Max processes +64 +64 /m);
  assert.match(limits, /^Max open files +69 +69 /m);
});

test('privilegesLeft() tells what this process has too much', () => {
  const root = `Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t0 4\nCapInh:\t0\nCapPrm:\t1ff\nCapEff:\t1ff\nCapBnd:\t1ff\nCapAmb:\t0\nNoNewPrivs:\t0\n`;
  assert.equal(privilegesLeft(root).length, 8);
  assert.equal(privilegesLeft('').length, 10);
});

test('a worker sees itself alone', { skip: needsRoot }, async () => {
  const seen = await probe<{ pids: string[]; pid: number; init: string; self: string }>(`
    return {
      pids: fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name)),
      pid: process.pid,
      init: attempt(() => fs.readFileSync('/proc/1/cmdline')),
      self: attempt(() => process.kill(1, 'SIGKILL')),
    };
  `);
  assert.deepEqual(seen.pids, [String(seen.pid)]);
  assert.deepEqual([seen.init, seen.self], ['ENOENT', 'EPERM']);
});

test('a worker finds nothing of the host', { skip: needsRoot }, async () => {
  const places = [
    '/etc/shadow',
    '/etc/passwd',
    '/root',
    '/run/containerd/containerd.sock',
    '/var/lib',
    '/sys/fs/cgroup',
    '/proc/sys/kernel/core_pattern',
    '/proc/kcore',
    '/proc/sysrq-trigger',
    '/dev/mem',
    '/dev/kmsg',
    '/bin/sh',
  ];
  const seen = await probe<{ opened: Record<string, string>; root: string[]; devices: string[] }>(`
    const opened = {};
    for (const place of ${JSON.stringify(places)}) opened[place] = attempt(() => fs.openSync(place));
    return { opened, root: fs.readdirSync('/'), devices: fs.readdirSync('/dev') };
  `);
  assert.deepEqual(new Set(Object.values(seen.opened)), new Set(['ENOENT']));
  assert.deepEqual(seen.devices.toSorted(), ['null', 'urandom']);
  assert.ok(!seen.root.includes('etc') && !seen.root.includes('root'), seen.root.join());
});

test('a worker can write to its small /tmp and nowhere else', { skip: needsRoot }, async () => {
  const seen = await probe<{ mounts: string; writes: Record<string, string>; full: string }>(`
    const writes = {};
    for (const place of ['/', '/dev', '/builderd', '/proc/self'])
      writes[place] = attempt(() => fs.writeFileSync(place + '/made', 'x'));
    writes.code = attempt(() => fs.appendFileSync(process.argv[1], 'x'));
    writes.node = attempt(() => fs.openSync('/builderd/node', 'r+'));
    writes.score = attempt(() => fs.writeFileSync('/proc/self/oom_score_adj', '0'));
    const full = attempt(() => {
      for (let i = 0; i < 64; i++) fs.writeFileSync('/tmp/file' + i, Buffer.alloc(100_000));
    });
    return { mounts: fs.readFileSync('/proc/self/mountinfo', 'utf8'), writes, full };
  `);
  for (const [place, outcome] of Object.entries(seen.writes)) {
    assert.match(outcome, /^(?:EROFS|EACCES|ENOENT)$/, place);
  }
  assert.equal(seen.full, 'ENOSPC');
  for (const line of seen.mounts.trim().split('\n')) {
    const [, , , , target = '', options = ''] = line.split(' ');
    const flags = options.split(',');
    assert.ok(flags.includes('nosuid'), line);
    assert.equal(flags.includes('ro'), target !== '/tmp', line);
    if (!target.startsWith('/dev/')) assert.ok(flags.includes('nodev'), line);
    if (target === '/tmp' || target === '/' || target.startsWith('/dev/'))
      assert.ok(flags.includes('noexec'), line);
  }
});

test('a worker cannot reach any network, nor the sockets of this host', {
  skip: needsRoot,
}, async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-sockets-'));
  await chmod(dir.path, 0o755);
  const abstract = `\0builderd-test-${process.pid}`;
  await using tcp = createServer();
  await using unix = createServer();
  await using hidden = createServer();
  const port = await new Promise<number>((listening) => {
    tcp.listen(0, '127.0.0.1', () => {
      const address = tcp.address();
      listening(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
  const file = path.join(dir.path, 'socket');
  await new Promise<void>((listening) => unix.listen({ path: file, writableAll: true }, listening));
  await new Promise<void>((listening) => hidden.listen({ path: abstract }, listening));
  const seen = await probe<Record<string, unknown>>(`
    const connect = (target) => new Promise((settle) => {
      const socket = net.connect(target);
      socket.on('connect', () => settle('connected')).on('error', (reason) => settle(reason.code));
    });
    return {
      interfaces: attempt(() => os.networkInterfaces()),
      devices: fs.readFileSync('/proc/self/net/dev', 'utf8').split('\\n').slice(2, -1).length,
      loopback: await connect({ host: '127.0.0.1', port: ${port} }),
      outside: await connect({ host: '192.0.2.1', port: 80 }),
      path: await connect({ path: ${JSON.stringify(file)} }),
      abstract: await connect({ path: ${JSON.stringify(abstract)} }),
    };
  `);
  assert.deepEqual(seen, {
    // It makes no socket at all; and if it could, its namespace has nothing but a dead loopback.
    interfaces: 'ERR_SYSTEM_ERROR',
    devices: 1,
    loopback: 'EPERM',
    outside: 'EPERM',
    path: 'EPERM',
    abstract: 'EPERM',
  });
});

test('a worker has the handed descriptors and no other', { skip: needsRoot }, async () => {
  await using dir = await mkdtempDisposable(path.join(tmpdir(), 'builderd-handed-'));
  const file = path.join(dir.path, 'layer');
  await writeFile(file, 'bytes of a layer', { mode: 0o600 });
  // Open in this process while it starts the worker, without close-on-exec in the worst case.
  await using own = await open('/etc/shadow');
  await using handed = await open(file);
  const seen = await probe<{
    links: Record<string, string>;
    read: string;
    reopened: string;
    written: string;
  }>(
    `
    const links = {};
    for (const name of fs.readdirSync('/proc/self/fd')) {
      try { links[name] = fs.readlinkSync('/proc/self/fd/' + name); } catch { links[name] = 'closed'; }
    }
    const into = Buffer.alloc(5);
    fs.readSync(${FIRST_HANDED_FD}, into, 0, 5, 0);
    return {
      links,
      read: String(into),
      reopened: attempt(() => fs.openSync('/proc/self/fd/${FIRST_HANDED_FD}', 'r+')),
      written: attempt(() => fs.writeSync(${FIRST_HANDED_FD}, 'x')),
    };
  `,
    { handed: [handed.fd] },
  );
  assert.equal(own.fd > 0, true);
  assert.deepEqual([seen.read, seen.reopened, seen.written], ['bytes', 'EACCES', 'EBADF']);
  for (const [fd, link] of Object.entries(seen.links)) {
    if (Number(fd) === FIRST_HANDED_FD) assert.equal(path.basename(link), 'layer');
    else
      assert.match(
        link,
        /^(?:socket:|pipe:|anon_inode:|\/dev\/(?:null|urandom)$|closed$)/,
        `${fd} is ${link}`,
      );
  }
});

const BUSYBOX = '/bin/busybox';
const needsBusybox =
  needsRoot || (existsSync(BUSYBOX) ? false : 'no static busybox to run inside (busybox-static)');

test('a worker cannot make itself a user namespace', { skip: needsBusybox }, async () => {
  await using busybox = await open(BUSYBOX);
  const seen = await probe<{ echo: string; error: string; status: number }>(
    `
    // Into files: the pipes of child_process are sockets, which it cannot make.
    const run = (...args) => {
      const out = fs.openSync('/tmp/out', 'w+');
      const { status } = spawnSync('/proc/self/fd/${FIRST_HANDED_FD}', args, { stdio: ['ignore', out, out], argv0: 'busybox' });
      return { status, said: fs.readFileSync('/tmp/out', 'utf8') };
    };
    const { status, said } = run('unshare', '-U', 'true');
    return { echo: run('echo', 'it runs').said, error: said, status };
  `,
    { handed: [busybox.fd] },
  );
  assert.equal(seen.echo, 'it runs\n');
  assert.match(seen.error, /unshare.*not permitted/);
  assert.notEqual(seen.status, 0);
});

test('what a worker leaves behind ends with it', { skip: needsRoot }, async () => {
  const seen = await probe<{ status: number; forks: number }>(`
    let forks = 0;
    for (let i = 0; i < 100; i++) {
      const child = spawn('/builderd/node', ['-e', 'setInterval(() => {}, 1000)'], { detached: true, stdio: 'ignore' });
      child.on('error', () => undefined);
      if (child.pid === undefined) break;
      child.unref();
      forks += 1;
    }
    return { forks };
  `);
  // Bounded by RLIMIT_NPROC, which counts threads; and all of them are gone with the worker.
  assert.ok(seen.forks < 64, `${seen.forks} processes`);
  assert.deepEqual(processesOf(WORKER_ID), []);
});
