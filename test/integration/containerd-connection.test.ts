import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { chmod, link, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { startPrivateContainerd } from '../../contrib/dev/private-containerd.ts';
import { sha256 } from '../../src/core/digest.ts';
import { ContainerdClient } from '../../src/runtime/containerd-client.ts';
import { RpcChannel } from '../../src/runtime/rpc-channel.ts';
import { openStoreSession } from '../../src/runtime/store-session.ts';
import { startTestContainerd } from '../fixtures/containerd.ts';

const MIB = 1024 * 1024;

async function withDir(use: (dir: string) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'bd-'));
  try {
    await use(dir);
  } finally {
    await rm(dir, { recursive: true });
  }
}

function connect(address: string): Promise<ContainerdClient> {
  return ContainerdClient.connect({ address, signal: AbortSignal.timeout(20_000) });
}

test('ContainerdClient.connect() names the path of a socket that is not there', () =>
  withDir(async (dir) => {
    const address = join(dir, 'c.sock');
    await assert.rejects(connect(address), {
      code: 'runtime.unreachable',
      message: `Cannot ask containerd's version: no socket at ${address}`,
    });
  }));

test('ContainerdClient.connect() tells a socket on which nothing listens', () =>
  withDir(async (dir) => {
    const address = join(dir, 'c.sock');
    const holder = createServer();
    await new Promise<void>((done) => holder.listen(address, done));
    // Node removes the file when it closes; a second name keeps the dead socket.
    const dead = join(dir, 'dead.sock');
    await link(address, dead);
    await new Promise<void>((done) => holder.close(() => done()));
    await assert.rejects(connect(dead), {
      code: 'runtime.unreachable',
      message: `Cannot ask containerd's version: nothing listens on ${dead}`,
    });
  }));

test('ContainerdClient.connect() refuses a server that does not speak gRPC', () =>
  withDir(async (dir) => {
    const address = join(dir, 'c.sock');
    const server = createServer((socket) => {
      socket.on('error', () => undefined).resume();
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    await new Promise<void>((done) => server.listen(address, done));
    try {
      await assert.rejects(connect(address), { code: 'runtime.unreachable' });
    } finally {
      await new Promise<void>((done) => server.close(() => done()));
    }
  }));

test('ContainerdClient.connect() names the path of a socket that we may not open', async () => {
  await using host = await startTestContainerd();
  const { address } = host.daemon;
  await chmod(host.dir, 0o711);
  // The socket is root:root 0660: without the group, too.
  const groups = process.getgroups?.() ?? [];
  process.setgroups?.([65_534]);
  process.setegid?.(65_534);
  process.seteuid?.(65_534);
  try {
    await assert.rejects(connect(address), {
      code: 'runtime.permission',
      message: `Cannot ask containerd's version: no permission to open ${address}`,
    });
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
    process.setgroups?.(groups);
  }
});

test('a method that the daemon does not know is runtime.unsupported', async () => {
  await using host = await startTestContainerd();
  using rpc = new RpcChannel(host.daemon.address);
  const method = {
    path: '/containerd.services.transfer.v9.Transfer/Transfer',
    requestSerialize: (value: Buffer) => value,
    responseDeserialize: (bytes: Buffer) => bytes,
  };
  await assert.rejects(rpc.unary(method, Buffer.alloc(0), host.call(), { doing: 'transfer' }), {
    code: 'runtime.unsupported',
  });
});

test('a daemon that hangs ends a call at its deadline, and a cancel ends it at once', async () => {
  await using host = await startTestContainerd();
  const { client, daemon } = host;
  process.kill(daemon.pid, 'SIGSTOP');
  try {
    await isStopped(daemon.pid);
    await assert.rejects(client.probe.version({ ...host.call(), timeoutMs: 300 }), {
      code: 'runtime.failed',
      message: "Cannot ask containerd's version: containerd did not answer within 300 ms",
    });
    const signal = AbortSignal.timeout(100);
    await assert.rejects(client.probe.version({ signal }), { code: 'build.cancelled' });
  } finally {
    process.kill(daemon.pid, 'SIGCONT');
  }
  assert.match((await client.probe.version(host.call())).version, /\d/);
});

/** The signal reaches one thread after another; one that still runs may answer. */
async function isStopped(pid: number): Promise<void> {
  const runs = (thread: string): boolean =>
    !/^\d+ \(.*\) [Tt] /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8'));
  while (readdirSync(`/proc/${pid}/task`).some(runs)) await pause(5);
}

test('a client outlives the daemon: calls fail typed while it is away and go on after it is back', () =>
  withDir(async (dir) => {
    const options = { dir: join(dir, 'd'), keepRoot: true };
    const signal = AbortSignal.timeout(60_000);
    const first = await startPrivateContainerd(options);
    const client = await connect(first.address);
    try {
      await client.namespaces.ensure('kept', {}, { signal });
      await first.stop();
      await assert.rejects(client.namespaces.list({ signal, retry: 'never' }), {
        code: 'runtime.unreachable',
      });
      const waiting = client.namespaces.list({ signal });
      await using second = await startPrivateContainerd(options);
      assert.equal(second.address, first.address);
      assert.ok((await waiting).some(({ name }) => name === 'kept'));
    } finally {
      client[Symbol.dispose]();
      await first.stop();
    }
  }));

test('ingest() resumes in a new session what a killed daemon and session left', () =>
  withDir(async (dir) => {
    const options = { dir: join(dir, 'd'), keepRoot: true };
    const call = { namespace: 'resume', signal: AbortSignal.timeout(60_000) };
    const data = randomBytes(6 * MIB);
    const descriptor = {
      mediaType: 'application/vnd.oci.image.layer.v1.tar',
      digest: sha256(data),
      size: data.length,
    };
    const sessionOptions = { namespace: call.namespace, leaseTtlMs: 3600_000 };
    const first = await startPrivateContainerd(options);
    const client = await connect(first.address);
    try {
      const broken = await openStoreSession(client, sessionOptions);
      const fetch = async function* (): AsyncGenerator<Buffer> {
        yield data.subarray(0, 3 * MIB);
        // One that was counted by the daemon for sure, then the end of it.
        await waitForIngest(client, call, MIB);
        process.kill(first.pid, 'SIGKILL');
        yield data.subarray(3 * MIB, 5 * MIB);
        yield data.subarray(5 * MIB);
      };
      await assert.rejects(broken.blobs.ingest(descriptor, fetch, call), {
        code: 'runtime.unreachable',
      });
      await first.stop();
      await using second = await startPrivateContainerd(options);
      assert.equal(second.address, first.address);
      await using session = await openStoreSession(client, sessionOptions);
      const offsets: number[] = [];
      const rest = async function* (offset: number): AsyncGenerator<Buffer> {
        offsets.push(offset);
        yield data.subarray(offset);
      };
      await session.blobs.ingest(descriptor, rest, call);
      assert.equal(offsets.length, 1);
      assert.ok((offsets[0] ?? 0) >= MIB, String(offsets[0]));
      assert.ok(data.equals(await session.blobs.read(descriptor, data.length, call)));
      await broken[Symbol.asyncDispose]();
    } finally {
      client[Symbol.dispose]();
      await first.stop();
    }
  }));

test('disposal of a session whose daemon is gone tells of it and hides no other fault', () =>
  withDir(async (dir) => {
    const daemon = await startPrivateContainerd({ dir: join(dir, 'd') });
    using client = await connect(daemon.address);
    const told: string[] = [];
    const work = async (): Promise<never> => {
      await using session = await openStoreSession(client, {
        namespace: 'gone',
        leaseTtlMs: 60_000,
        onCleanupFault: ({ code }) => told.push(code),
      });
      assert.ok(session);
      await daemon.stop();
      throw new RangeError('the fault of the work');
    };
    await assert.rejects(work(), RangeError);
    assert.deepEqual(told, ['runtime.unreachable']);
  }));

test('openStoreSession() sweeps the leases of dead processes', async () => {
  await using host = await startTestContainerd();
  const { client } = host;
  const call = host.call();
  const dead = await client.leases.create({ owner: 'another-boot.1.2.3', ttlMs: 60_000 }, call);
  await using session = await openStoreSession(client, {
    namespace: call.namespace,
    leaseTtlMs: 60_000,
  });
  assert.ok(session);
  const left = await client.leases.list([], call);
  assert.equal(left.length, 1);
  assert.notEqual(left[0]?.id, dead.id);
});

async function waitForIngest(
  client: ContainerdClient,
  call: { namespace: string; signal: AbortSignal },
  bytes: number,
): Promise<void> {
  for (;;) {
    const [ingest] = await client.content.ingests(call);
    if ((ingest?.offset ?? 0) >= bytes) return;
  }
}
