import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { BuilderdError } from '../../src/core/errors.ts';
import { grpcFault, hasStatus, isLocked } from '../../src/runtime/grpc-fault.ts';
import { parseSocketAddress } from '../../src/runtime/socket-address.ts';

const NOWHERE = '/nonexistent/builderd/c.sock';

function serviceError(code: status, details: string): ServiceError {
  return Object.assign(new Error(`${code} ${details}`), {
    code,
    details,
    metadata: new Metadata(),
  });
}

function translate(code: status, details: string): Promise<BuilderdError> {
  const signal = new AbortController().signal;
  return grpcFault(serviceError(code, details), {
    doing: 'do a thing',
    address: NOWHERE,
    signal,
    timeoutMs: 5,
  });
}

for (const [name, want] of [
  ['NOT_FOUND', 'runtime.not_found'],
  ['ALREADY_EXISTS', 'runtime.conflict'],
  ['FAILED_PRECONDITION', 'runtime.conflict'],
  ['OUT_OF_RANGE', 'runtime.conflict'],
  ['PERMISSION_DENIED', 'runtime.permission'],
  ['UNIMPLEMENTED', 'runtime.unsupported'],
  ['RESOURCE_EXHAUSTED', 'runtime.failed'],
  ['DEADLINE_EXCEEDED', 'runtime.failed'],
  ['CANCELLED', 'runtime.failed'],
  ['UNKNOWN', 'runtime.failed'],
  ['INVALID_ARGUMENT', 'internal'],
] as const) {
  test(`grpcFault() turns ${name} into ${want} and keeps the status`, async () => {
    const fault = await translate(status[name], 'a fact');
    assert.equal(fault.code, want);
    assert.ok(hasStatus(fault, name));
    assert.match(fault.message, /^Cannot do a thing: /);
  });
}

test('grpcFault() names the socket path when nothing is there', async () => {
  const fault = await translate(status.UNAVAILABLE, 'No connection established');
  assert.equal(fault.code, 'runtime.unreachable');
  assert.ok(fault.message.includes(`no socket at ${NOWHERE}`), fault.message);
});

test('grpcFault() tells a locked reference from a daemon that is away', async () => {
  const fault = await translate(status.UNAVAILABLE, 'ref default/1/x locked for 3s: unavailable');
  assert.equal(fault.code, 'runtime.conflict');
  assert.ok(isLocked(fault));
});

test("grpcFault() calls the daemon's full disk storage.full", async () => {
  const fault = await translate(status.UNKNOWN, 'write /x: no space left on device: unknown');
  assert.equal(fault.code, 'storage.full');
});

test('grpcFault() gives the reason of our own signal, whatever the status says', async () => {
  const reason = new BuilderdError('build.timeout', 'Cannot finish: too slow');
  const fault = await grpcFault(serviceError(status.CANCELLED, 'Cancelled on client'), {
    doing: 'do a thing',
    address: NOWHERE,
    signal: AbortSignal.abort(reason),
  });
  assert.equal(fault, reason);
});

test('grpcFault() passes a typed error and wraps any other as internal', async () => {
  const context = { doing: 'do a thing', address: NOWHERE, signal: new AbortController().signal };
  const typed = new BuilderdError('storage.full', 'Cannot write: full');
  assert.equal(await grpcFault(typed, context), typed);
  assert.equal((await grpcFault(new TypeError('oops'), context)).code, 'internal');
});

for (const [text, want] of [
  ['/run/a.sock', '/run/a.sock'],
  ['unix:///run/a.sock', '/run/a.sock'],
  ['unix:/run/a.sock', '/run/a.sock'],
] as const) {
  test(`parseSocketAddress() reads ${text}`, () => assert.equal(parseSocketAddress(text), want));
}

for (const text of ['', 'run/a.sock', 'tcp://127.0.0.1:1', 'unix://', '/run/a\0b']) {
  test(`parseSocketAddress() refuses ${JSON.stringify(text)}`, () => {
    assert.throws(() => parseSocketAddress(text), { code: 'config.invalid' });
  });
}
