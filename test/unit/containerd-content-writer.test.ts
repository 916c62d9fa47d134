import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Server, ServerCredentials, status, type ServerDuplexStream } from '@grpc/grpc-js';
import { sha256 } from '../../src/core/digest.ts';
import { ContentWriter } from '../../src/runtime/content-writer.ts';
import type { WriteContentRequest__Output } from '../../src/runtime/generated/containerd/services/content/v1/WriteContentRequest.ts';
import type { WriteContentResponse } from '../../src/runtime/generated/containerd/services/content/v1/WriteContentResponse.ts';
import { loadProtocol } from '../../src/runtime/protocol.ts';
import { RpcChannel } from '../../src/runtime/rpc-channel.ts';

type Stream = ServerDuplexStream<WriteContentRequest__Output, WriteContentResponse>;

const { Write } = loadProtocol().content;
const target = { ref: 'r', digest: sha256('x'), size: 1 };

/** A server whose Write behaves as told; real gRPC over a real socket. */
async function withServer(
  onMessage: (message: WriteContentRequest__Output, stream: Stream) => void,
  use: (rpc: RpcChannel) => Promise<void>,
): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'bd-'));
  const server = new Server();
  try {
    server.addService(
      { Write },
      {
        Write: (stream: Stream) => {
          stream.on('data', (message: WriteContentRequest__Output) => onMessage(message, stream));
          stream.on('end', () => stream.end());
        },
      },
    );
    const address = join(dir, 's');
    await new Promise<void>((done, fail) => {
      server.bindAsync(`unix:${address}`, ServerCredentials.createInsecure(), (fault) =>
        fault === null ? done() : fail(fault),
      );
    });
    using rpc = new RpcChannel(address);
    await use(rpc);
  } finally {
    server.forceShutdown();
    await rm(dir, { recursive: true });
  }
}

function call(signal: AbortSignal = new AbortController().signal): {
  namespace: string;
  signal: AbortSignal;
} {
  return { namespace: 'n', signal };
}

const replyTo = ({ action, offset }: WriteContentRequest__Output): WriteContentResponse => ({
  action,
  offset,
  digest: target.digest,
});

test('ContentWriter.commit() takes a doubled reply for one', async () => {
  await withServer(
    (message, stream) => {
      stream.write(replyTo(message));
      if (message.action !== 'COMMIT') return;
      stream.write(replyTo(message));
      stream.end();
    },
    async (rpc) => {
      const { writer } = await ContentWriter.open(rpc, Write, target, call());
      await using open = writer;
      await open.write(0, Buffer.from('x'));
      await open.commit({});
    },
  );
});

test('ContentWriter.commit() fails when the stream ends well but without a reply', async () => {
  await withServer(
    (message, stream) => {
      if (message.action === 'COMMIT') stream.end();
      else stream.write(replyTo(message));
    },
    async (rpc) => {
      const { writer } = await ContentWriter.open(rpc, Write, target, call());
      await using open = writer;
      await assert.rejects(open.commit({}), {
        code: 'runtime.failed',
        message: /without a reply to the commit$/,
      });
    },
  );
});

test('ContentWriter.commit() fails when a fault follows the reply', async () => {
  await withServer(
    (message, stream) => {
      stream.write(replyTo(message));
      if (message.action !== 'COMMIT') return;
      stream.emit('error', { code: status.FAILED_PRECONDITION, details: 'unexpected digest' });
    },
    async (rpc) => {
      const { writer } = await ContentWriter.open(rpc, Write, target, call());
      await using open = writer;
      await assert.rejects(open.commit({}), { code: 'runtime.conflict' });
    },
  );
});

test('ContentWriter.open() fails when the stream ends at once', async () => {
  await withServer(
    (_message, stream) => stream.end(),
    async (rpc) => {
      await assert.rejects(ContentWriter.open(rpc, Write, target, call()), {
        code: 'runtime.failed',
        message: /ended the stream too early$/,
      });
    },
  );
});

test('ContentWriter.open() cancelled after the server made the ingest returns, to be used no more', async () => {
  const cancel = new AbortController();
  await withServer(
    (message, stream) => {
      // The reply is on its way, and the client cannot have read it yet: it shares our thread.
      stream.write(replyTo(message));
      cancel.abort();
    },
    async (rpc) => {
      const { writer } = await ContentWriter.open(rpc, Write, target, call(cancel.signal));
      await assert.rejects(writer.write(0, Buffer.from('x')), { code: 'build.cancelled' });
    },
  );
});

test('ContentWriter.write() stops at four unanswered messages', async () => {
  const received: string[] = [];
  await withServer(
    (message, stream) => {
      if (message.action === 'STAT') stream.write(replyTo(message));
      else received.push(message.offset);
    },
    async (rpc) => {
      const cancel = new AbortController();
      const { writer } = await ContentWriter.open(rpc, Write, target, call(cancel.signal));
      const endless = async (): Promise<void> => {
        for (let offset = 0; ; offset++) await writer.write(offset, Buffer.from('x'));
      };
      const stopped = assert.rejects(endless(), { code: 'build.cancelled' });
      while (received.length < 4) await new Promise((done) => setImmediate(done));
      for (let turn = 0; turn < 100; turn++) await new Promise((done) => setImmediate(done));
      assert.deepEqual(received, ['0', '1', '2', '3']);
      cancel.abort();
      await stopped;
      await writer[Symbol.asyncDispose]();
    },
  );
});
