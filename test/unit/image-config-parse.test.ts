import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseStopSignal } from '../../src/rootfs/image-config/stop-signal.ts';
import { configOf } from '../fixtures/image-config.ts';

const DIFF_ID = `sha256:${'a'.repeat(64)}`;

test('parseImageConfig() reads every field of a full document', () => {
  const config = configOf(
    {
      User: 'app:staff',
      ExposedPorts: { '8080/tcp': {}, '53/udp': {}, '9000-9002': {} },
      Env: ['PATH=/bin', 'EMPTY=', 'A=b=c'],
      Entrypoint: ['/entry'],
      Cmd: ['serve', '--fast'],
      Volumes: { '/data/': {}, '/cache': {} },
      WorkingDir: '/srv/./app/',
      Labels: { maintainer: 'x' },
      StopSignal: 'SIGRTMIN+3',
      Healthcheck: { Test: ['CMD', 'true'], Interval: 30_000_000_000, Retries: 3 },
      OnBuild: ['RUN x'],
      Shell: ['/bin/bash', '-c'],
      ArgsEscaped: true,
    },
    {
      variant: 'v3',
      author: 'someone',
      created: '2024-01-02T03:04:05.123456789Z',
      history: [{}, { empty_layer: true }],
      rootfs: { type: 'layers', diff_ids: [DIFF_ID] },
    },
    1,
  );
  assert.deepEqual(config, {
    os: 'linux',
    architecture: 'amd64',
    variant: 'v3',
    author: 'someone',
    created: '2024-01-02T03:04:05.123456789Z',
    historyCount: 2,
    diffIds: [DIFF_ID],
    env: new Map([
      ['PATH', '/bin'],
      ['EMPTY', ''],
      ['A', 'b=c'],
    ]),
    entrypoint: ['/entry'],
    cmd: ['serve', '--fast'],
    workingDir: '/srv/app',
    user: { user: { kind: 'name', name: 'app' }, group: { kind: 'name', name: 'staff' } },
    userText: 'app:staff',
    exposedPorts: [
      { port: 53, lastPort: 53, protocol: 'udp' },
      { port: 8080, lastPort: 8080, protocol: 'tcp' },
      { port: 9000, lastPort: 9002, protocol: 'tcp' },
    ],
    volumes: ['/cache', '/data'],
    stopSignal: { name: 'SIGRTMIN+3', number: 37 },
    labels: new Map([['maintainer', 'x']]),
    healthcheck: { test: ['CMD', 'true'], intervalNs: 30_000_000_000, retries: 3 },
    onBuild: ['RUN x'],
    shell: ['/bin/bash', '-c'],
    argsEscaped: true,
    warnings: [],
  });
});

test('parseImageConfig() takes null and absent fields as unset, as Go writes them', () => {
  const empty = configOf(null);
  const nulls = configOf({
    User: null,
    ExposedPorts: null,
    Env: null,
    Entrypoint: null,
    Cmd: null,
    Volumes: null,
    WorkingDir: null,
    Labels: null,
    StopSignal: null,
    Healthcheck: null,
    OnBuild: null,
    Shell: null,
    ArgsEscaped: null,
  });
  assert.deepEqual(nulls, empty);
  assert.equal(empty.workingDir, '/');
  assert.deepEqual(empty.user, { user: { kind: 'id', id: 0 } });
});

test('parseImageConfig() lets the last value of a variable win', () => {
  assert.deepEqual(
    [...configOf({ Env: ['A=1', 'B=2', 'A=3'] }).env],
    [
      ['A', '3'],
      ['B', '2'],
    ],
  );
});

test('parseImageConfig() makes a relative working directory absolute', () => {
  assert.equal(configOf({ WorkingDir: 'a/../b' }).workingDir, '/b');
  assert.equal(configOf({ WorkingDir: '../../x' }).workingDir, '/x');
});

test('parseStopSignal() reads names, numbers and real-time signals', () => {
  const cases: readonly (readonly [string, string | undefined, number?])[] = [
    ['SIGTERM', 'SIGTERM', 15],
    ['term', 'SIGTERM', 15],
    ['15', 'SIGTERM', 15],
    ['SIGIOT', 'SIGABRT', 6],
    ['RTMAX-1', 'SIGRTMIN+29', 63],
    ['SIGRTMIN', 'SIGRTMIN', 34],
    ['RTMIN+31', undefined],
    ['RTMAX+1', undefined],
    ['RTMIN-1', undefined],
    ['0', undefined],
    ['33', undefined],
    ['65', undefined],
    ['9999', undefined],
    ['SIGFOO', undefined],
    ['', undefined],
  ];
  for (const [text, name, number] of cases) {
    const want = name === undefined ? undefined : { name, number };
    assert.deepEqual(parseStopSignal(text), want, text);
  }
});
