import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { type CtlUser, ctlUser } from '../fixtures/run-ctl.ts';

const ID = '0198c0de-0000-7000-8000-000000000000';
const BUILD = {
  id: ID,
  tenant: 'acme',
  state: 'completed',
  name: 'x',
  labels: {},
  priority: 0,
  spec: {},
  createdAt: '2026-11-24T00:00:00.000Z',
  timeoutMs: 1,
  attempt: 1,
  cancelRequested: false,
  progressPercent: 100,
  currentStep: '',
  artifacts: [],
  steps: [],
  version: 1,
};
/** What a terminal would obey, in each of its spellings. */
const EVIL = '\u001b]0;owned\u0007\u001b[2J\u009b31m\u202e\r\nbuilderctl: all is well';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

async function against(answer: Answer, work: (user: CtlUser) => Promise<void>): Promise<void> {
  const sockets = new Set<Socket>();
  const server = createHttp((request, response) => {
    request.resume();
    response.on('error', () => response.destroy());
    answer(request, response);
  });
  await serve(server, sockets, work);
}

async function serve(
  server: Server,
  sockets: Set<Socket>,
  work: (user: CtlUser) => Promise<void>,
): Promise<void> {
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    await using user = await ctlUser({
      BUILDERCTL_SERVER: `http://127.0.0.1:${port}`,
      BUILDERCTL_TOKEN: 'bld_topsecret',
    });
    await work(user);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

const json =
  (document: unknown, status = 200, type = 'application/json'): Answer =>
  (_request, response) => {
    response.writeHead(status, { 'content-type': type }).end(JSON.stringify(document));
  };

/** Ends with a sentence and a next step: no stack, no token, nothing that moves the cursor. */
function assertCivil({ stdout, stderr }: { stdout: string; stderr: string }): void {
  assert.match(stderr, /builderctl: Cannot [^\n]*\nnext: [^\n]*\n$/);
  for (const text of [stdout, stderr]) {
    assert.doesNotMatch(text, /\n\s+at |topsecret/);
    // oxlint-disable-next-line no-control-regex -- exactly those must not come through
    assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  }
}

const endless =
  (type: string, piece: string, status = 200): Answer =>
  (_request, response) => {
    response.writeHead(status, { 'content-type': type });
    const timer = setInterval(() => {
      // As much as is taken: the memory of the test must not fill either.
      for (let n = 0; n < 64 && response.write(piece); n += 1);
    }, 0);
    response.on('close', () => clearInterval(timer));
  };

const WRONG_ANSWERS: readonly (readonly [string, readonly string[], Answer, RegExp])[] = [
  [
    'an endless document',
    ['builds', 'list'],
    endless('application/json', ' '.repeat(65_536)),
    /over 33554432 bytes/,
  ],
  [
    'an endless problem',
    ['builds', 'list'],
    endless('application/problem+json', 'x'.repeat(65_536), 400),
    /Cannot list the builds/,
  ],
  [
    'an endless event line',
    ['logs', '-f', ID],
    endless('text/event-stream', 'a'.repeat(65_536)),
    /event of more than 4194304/,
  ],
  [
    'an endless event',
    ['logs', '-f', ID],
    endless('text/event-stream', `data: ${'a'.repeat(60_000)}\n`),
    /event of more than 4194304/,
  ],
  [
    'no JSON',
    ['builds', 'list'],
    (_request, response) => void response.end('<html>'),
    /it is no JSON/,
  ],
  ['a list where a page is meant', ['builds', 'list'], json([]), /it is no object/],
  ['wrong types', ['builds', 'get', ID], json({ ...BUILD, id: 7 }), /it\.id is no text/],
  [
    'an id that is a command',
    ['builds', 'get', ID],
    json({ ...BUILD, id: '$(reboot)' }),
    /it\.id is no id/,
  ],
  [
    'a size that is no number',
    ['artifacts', 'list', ID],
    json({
      artifacts: [
        {
          name: 'a',
          format: 'b',
          mediaType: 'c',
          digest: 'd',
          sizeBytes: -1,
          createdAt: BUILD.createdAt,
        },
      ],
    }),
    /sizeBytes is no whole number/,
  ],
  [
    'a time that is none',
    ['builds', 'get', ID],
    json({ ...BUILD, createdAt: EVIL }),
    /createdAt is no time/,
  ],
  [
    'a deep document',
    ['builds', 'get', ID],
    (_request, response) => {
      const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
      response.end(JSON.stringify(BUILD).replace('"spec":{}', `"spec":${deep}`));
    },
    /is no shallow value/,
  ],
  [
    'a redirect',
    ['builds', 'list'],
    (_request, response) => void response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
    /sends us elsewhere \(302\)/,
  ],
  [
    'a problem of escapes',
    ['builds', 'list'],
    json({ detail: EVIL, code: EVIL, hint: EVIL }, 400, 'application/problem+json'),
    /Cannot list the builds: .*all is well/,
  ],
  [
    'a web page for logs',
    ['logs', '-f', ID],
    (_request, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('x'),
    /no event stream/,
  ],
  [
    'another program for health',
    ['health'],
    (_request, response) => void response.end('hello'),
    /is no builderd/,
  ],
  [
    'headers without end',
    ['usage'],
    (_request, response) =>
      void response.writeHead(200, { 'x-evil': 'a'.repeat(60_000) }).end('{}'),
    /headers are too large/,
  ],
];
for (const [name, args, answer, message] of WRONG_ANSWERS) {
  test(`${name}: one sentence, and exit code 2 or 3`, async () => {
    await against(answer, async (user) => {
      const result = await user.run(args);
      assertCivil(result);
      assert.match(result.stderr, message);
      assert.ok(result.code === 3 || result.code === 2, String(result.code));
    });
  });
}

test('escapes in every field of a good answer are shown, not sent, as text and as JSON', async () => {
  const evil = {
    ...BUILD,
    state: EVIL,
    name: EVIL,
    tenant: EVIL,
    labels: { [EVIL]: EVIL },
    waiting: { reason: EVIL, ahead: 1, message: EVIL },
    error: { code: EVIL, message: EVIL, fault: EVIL, hint: EVIL },
    source: { reference: EVIL, digest: EVIL },
    steps: [{ attempt: 1, state: EVIL, name: EVIL, startedAt: BUILD.createdAt, outcome: EVIL }],
    artifacts: [
      {
        name: EVIL,
        format: EVIL,
        mediaType: EVIL,
        digest: EVIL,
        sizeBytes: 1,
        createdAt: BUILD.createdAt,
      },
    ],
    spec: { [EVIL]: EVIL },
  };
  await against(
    (request, response) => {
      const isPage = request.url === '/v1/builds?limit=50';
      json(isPage ? { builds: [evil], total: 1, nextCursor: EVIL } : evil)(request, response);
    },
    async (user) => {
      for (const args of [
        ['builds', 'get', ID],
        ['builds', 'list'],
        ['builds', 'cancel', ID],
        ['builds', 'get', ID, '--json'],
      ]) {
        const { code, stdout, stderr } = await user.run(args);
        assert.equal(code, 0, stderr);
        // oxlint-disable-next-line no-control-regex -- exactly those must not come through
        assert.doesNotMatch(
          `${stdout}${stderr}`,
          /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/,
        );
        assert.doesNotMatch(stdout, /^builderctl: all is well/m);
      }
    },
  );
});

test('an artifact whose name leads out of the directory is not saved', async () => {
  const digest = `sha256:${'0'.repeat(64)}`;
  const escaping = {
    name: '../../evil',
    format: 'ext4',
    mediaType: 'x',
    digest,
    sizeBytes: 4,
    createdAt: BUILD.createdAt,
  };
  await against(
    (request, response) => {
      if (request.url?.endsWith('/artifacts') === true)
        json({ artifacts: [escaping] })(request, response);
      else response.end('evil');
    },
    async (user) => {
      const result = await user.run(['artifacts', 'get', ID]);
      assertCivil(result);
      assert.match(result.stderr, /its name is no name of a file/);
      assert.deepEqual(await readdir(user.home), []);
    },
  );
});

test('a server that accepts and says no HTTP, or closes at once, is told from a good one', async () => {
  for (const [reply, message] of [
    ['SSH-2.0-OpenSSH_9.2\r\n', /does not speak HTTP/],
    ['', /the connection was cut/],
  ] as const) {
    const server = createTcp((socket) => void socket.end(reply));
    await serve(server, new Set(), async (user) => {
      const result = await user.run(['usage']);
      assertCivil(result);
      assert.match(result.stderr, message);
      assert.equal(result.code, 3);
    });
  }
});

test('lost answers are asked for again where that is harmless, and only there', async () => {
  const seen: string[] = [];
  const keys = new Set<unknown>();
  await against(
    (request, response) => {
      seen.push(`${request.method} ${request.url}`);
      keys.add(request.headers['idempotency-key']);
      const nth = seen.filter((each) => each === seen.at(-1)).length;
      if (nth < 3) response.socket?.destroy();
      else if (request.method === 'DELETE')
        json(
          { detail: 'x', code: 'api.not_found' },
          404,
          'application/problem+json',
        )(request, response);
      else json(BUILD, request.method === 'POST' ? 202 : 200)(request, response);
    },
    async (user) => {
      const count = (line: string): number => seen.filter((each) => each === line).length;
      assert.equal((await user.run(['build', 'debian:12'])).code, 0);
      assert.equal(count('POST /v1/builds'), 3);
      assert.equal(keys.size, 1, 'one key for all three');
      assert.equal(
        (await user.run(['builds', 'delete', ID])).code,
        0,
        'it was deleted by the first',
      );
      const tenant = await user.run(['tenants', 'create', 'beta']);
      assertCivil(tenant);
      assert.equal(tenant.code, 3);
      assert.equal(count('POST /v1/tenants'), 1);
    },
  );
});

test('a rate is waited for, a quota is not', async () => {
  const refusals = new Map([
    ['/v1/usage', 'api.too_many'],
    ['/v1/quotas', 'quota.exceeded'],
  ]);
  const seen: (string | undefined)[] = [];
  await against(
    (request, response) => {
      seen.push(request.url);
      const code = refusals.get(request.url ?? '');
      refusals.delete('/v1/usage');
      if (code === undefined) {
        json({
          activeBuilds: 0,
          queuedBuilds: 0,
          dailyBuildsUsed: 0,
          storageBytesUsed: 0,
          computeMinutesUsed: 0,
          buildsCompletedToday: 0,
          buildsFailedToday: 0,
        })(request, response);
        return;
      }
      response.setHeader('retry-after', '1');
      json({ detail: 'Cannot go on', code }, 429, 'application/problem+json')(request, response);
    },
    async (user) => {
      assert.equal((await user.run(['usage'])).code, 0);
      assert.equal((await user.run(['quota', 'get'])).code, 1);
      assert.deepEqual(seen, ['/v1/usage', '/v1/usage', '/v1/quotas']);
    },
  );
});
