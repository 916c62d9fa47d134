import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { test } from 'node:test';

// A dependency of proto-loader, not of ours: the very parser that reads our files when we run.
const protoLoader = createRequire(import.meta.url).resolve('@grpc/proto-loader');
const { Root, parse }: ProtobufModule = createRequire(protoLoader)('protobufjs');

interface Field {
  readonly name: string;
  readonly id: number;
  readonly type: string;
  readonly repeated: boolean;
  readonly map: boolean;
  readonly keyType?: string;
  resolve(): Field;
  readonly resolvedType: Reflected | null;
}
interface Reflected {
  readonly fullName: string;
  readonly nestedArray?: readonly Reflected[];
  readonly fieldsArray?: readonly Field[];
  readonly values?: Readonly<Record<string, number>>;
  readonly methodsArray?: readonly Method[];
}
interface Method {
  readonly name: string;
  readonly requestStream?: boolean;
  readonly responseStream?: boolean;
  resolve(): Method;
  readonly resolvedRequestType: Reflected | null;
  readonly resolvedResponseType: Reflected | null;
}
interface ProtobufModule {
  readonly Root: new () => Reflected;
  readonly parse: (text: string, root: Reflected, options: { keepCase: boolean }) => unknown;
}

const OURS = resolve(import.meta.dirname, '../../proto/containerd');
/** Package golang-github-containerd-containerd-dev. */
const THEIRS = '/usr/share/gocode/src/github.com/containerd/containerd';

/** Fields that the packaged protos (1.6) do not have, with the first containerd that does. */
const NEWER = new Map([
  ['.containerd.services.introspection.v1.ServerResponse.pid', '1.6.27'],
  ['.containerd.services.introspection.v1.ServerResponse.pidns', '1.6.27'],
  ['.containerd.services.diff.v1.ApplyRequest.sync_fs', '1.7.14'],
]);

test('proto/containerd has the fields, numbers, types and methods of containerd', (t) => {
  if (!existsSync(THEIRS)) {
    t.skip(`install golang-github-containerd-containerd-dev: there is no ${THEIRS}`);
    return;
  }
  const ours = describe(protoFiles(OURS).map((path) => readFileSync(path, 'utf8')));
  const theirs = describe([
    ...['api/services', 'api/types', 'api/events', 'runtime/v2/runc/options']
      .flatMap((dir) => protoFiles(join(THEIRS, dir)))
      .map((path) => stripGogo(readFileSync(path, 'utf8'))),
    readFileSync(join(OURS, 'google/rpc/status.proto'), 'utf8'),
  ]);
  const lines = [...ours];
  assert.ok(lines.length > 150, `only ${lines.length} facts were read`);
  const wrong = lines.filter(([name, fact]) => theirs.get(name) !== fact && !NEWER.has(name));
  assert.deepEqual(
    wrong.map(([name, fact]) => `${name}: ours ${fact}, theirs ${theirs.get(name)}`),
    [],
  );
});

test('the list of newer fields names only fields that we have and the packaged protos lack', (t) => {
  if (!existsSync(THEIRS)) {
    t.skip(`install golang-github-containerd-containerd-dev: there is no ${THEIRS}`);
    return;
  }
  const ours = describe(protoFiles(OURS).map((path) => readFileSync(path, 'utf8')));
  const missing = [...NEWER.keys()].filter((name) => !ours.has(name));
  assert.deepEqual(missing, []);
});

test('describe() sees a changed number, type and stream', () => {
  const base =
    'syntax = "proto3"; package p; message M { int64 a = 1; } service S { rpc R(M) returns (M); }';
  const changed = base
    .replace('int64 a = 1', 'int32 a = 2')
    .replace('returns (M)', 'returns (stream M)');
  assert.deepEqual(
    [...describe([base])],
    [
      ['.p.M.a', '1 int64'],
      ['.p.S.R', '.p.M -> .p.M'],
    ],
  );
  assert.deepEqual(
    [...describe([changed])],
    [
      ['.p.M.a', '2 int32'],
      ['.p.S.R', '.p.M -> stream .p.M'],
    ],
  );
});

function protoFiles(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.proto') && !name.includes('ttrpc'))
    .map((name) => join(dir, name));
}

/** Options and weak imports of gogoproto change nothing on the wire, and protobufjs cannot read them. */
function stripGogo(text: string): string {
  return text
    .replaceAll(/^import .*$/gm, '')
    .replaceAll(/^\s*option \(.*$/gm, '')
    .replaceAll(/\s*\[\(gogoproto[^\]]*\]/g, '');
}

/** One line per field, enum value and method: full name → what the wire sees of it. */
function describe(texts: readonly string[]): Map<string, string> {
  const root = new Root();
  for (const name of ['Any', 'Empty', 'FieldMask', 'Timestamp']) {
    parse(`syntax = "proto3"; package google.protobuf; message ${name} {}`, root, {
      keepCase: true,
    });
  }
  for (const text of texts) {
    parse(text.replaceAll(/^import .*$/gm, ''), root, { keepCase: true });
  }
  const facts = new Map<string, string>();
  walk(root, facts);
  return facts;
}

/** A message has fields, an enum values, a service methods; a package has none of them. */
function walk(node: Reflected, facts: Map<string, string>): void {
  for (const field of node.fieldsArray ?? []) {
    const { id, repeated, type, map, keyType, resolvedType } = field.resolve();
    const label = map ? `map ${keyType} ` : repeated ? 'repeated ' : '';
    facts.set(`${node.fullName}.${field.name}`, `${id} ${label}${resolvedType?.fullName ?? type}`);
  }
  for (const [name, id] of Object.entries(node.values ?? {})) {
    facts.set(`${node.fullName}.${name}`, String(id));
  }
  for (const method of node.methodsArray ?? []) {
    const { requestStream, responseStream, ...rest } = method.resolve();
    const request = `${requestStream ? 'stream ' : ''}${rest.resolvedRequestType?.fullName}`;
    const response = `${responseStream ? 'stream ' : ''}${rest.resolvedResponseType?.fullName}`;
    facts.set(`${node.fullName}.${method.name}`, `${request} -> ${response}`);
  }
  for (const child of node.nestedArray ?? []) walk(child, facts);
}
