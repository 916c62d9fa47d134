import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { test } from 'node:test';
import { importsOf, readSources } from '../../contrib/dev/import-graph.ts';
import { ERRORS } from '../../src/core/error-catalogue.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const MAX_LINES = 500;
const all = readSources(ROOT, ['src', 'native', 'proto', 'contrib', 'test']);
const GENERATED = /^src\/(?:runtime|api\/rpc)\/generated\//;
const written = new Map([...all].filter(([path]) => !GENERATED.test(path)));
const product = new Map([...written].filter(([path]) => /^(?:src|native)\//.test(path)));

test('every folder with sources has a README.md', () => {
  const folders = new Set([...written.keys()].map((path) => dirname(path)));
  const bare = [...folders].filter((folder) => !isExplained(folder));
  assert.deepEqual(bare.toSorted(), []);
});

/** Under src each folder speaks for itself; elsewhere the one above may speak for it. */
function isExplained(folder: string): boolean {
  if (existsSync(join(ROOT, folder, 'README.md'))) return true;
  const parent = dirname(folder);
  return parent !== '.' && !folder.startsWith('src/') && isExplained(parent);
}

test(`no source file is longer than ${MAX_LINES} lines`, () => {
  const long = [...written].filter(([, text]) => text.split('\n').length - 1 > MAX_LINES);
  assert.deepEqual(
    long.map(([path]) => path),
    [],
  );
});

test('files are named after a concept, in kebab-case, never after their kind', () => {
  const vague = /^(?:utils?|helpers?|common|types?|interfaces?|misc|index)\.\w+$/;
  const odd = [...written.keys()].filter((path) => {
    const name = basename(path);
    return vague.test(name) || !/^[a-z0-9]+(?:[.-][a-z0-9]+)*\.(?:test\.)?\w+$/.test(name);
  });
  // A proto keeps the name that its upstream gave it.
  assert.deepEqual(
    odd.filter((path) => !path.endsWith('.proto')),
    [],
  );
});

test('nothing is left to do in a comment', () => {
  const marks = new RegExp(`\\b(?:${['TO', 'FIX'].join('DO|')}ME|X{3})\\b`);
  const open = [...written].filter(([, text]) => marks.test(text));
  assert.deepEqual(
    open.map(([path]) => path),
    [],
  );
});

test('only the command line reads the environment or ends the process', () => {
  const faults = [...product].filter(
    ([path, text]) =>
      !path.startsWith('src/cli/') &&
      path !== 'native/build.ts' &&
      /\bprocess\.(?:env|exit|argv)\b/.test(text),
  );
  assert.deepEqual(
    faults.map(([path]) => path),
    [],
  );
});

test('only the egress room opens connections to the network', () => {
  const network = /^(?:undici|(?:node:)?(?:net|tls|http|https|http2|dgram|dns)(?:\/promises)?)$/;
  // Asks whether the containerd socket, a path on this host, would let us in.
  const parsersOnly = /^import \{ isIP(?:v[46])? \} from 'node:net';$/gm;
  const excused = new Set([
    'src/runtime/socket-address.ts',
    // Says how PostgreSQL's certificate is checked; its endpoint is the operator's.
    'src/store/postgres-tls.ts',
    // Lines into a pipe or socket that the process was given.
    'src/cli/logging/line-sink.ts',
    'src/cli/serve/role-link.ts',
    // builderctl reaches what its user may reach; the rule guards the service.
    'src/cli/ctl/client/connection.ts',
    // Listen on this host; what is asked is the other role, over a socket in RUN_DIR.
    'src/cli/serve/metrics-server.ts',
    'src/cli/serve/role-socket.ts',
  ]);
  const faults = [...product].filter(
    ([path, text]) =>
      !path.startsWith('src/egress/') &&
      !excused.has(path) &&
      // Listens, and dials nobody.
      !path.startsWith('src/api/server/') &&
      importsOf(text.replace(parsersOnly, '')).some((each) => network.test(each)),
  );
  assert.deepEqual(
    faults.map(([path]) => path),
    [],
  );
});

test('no program is started through a shell', () => {
  const shell = /\bshell:\s*true\b|\b(?:exec|execSync)\b[^;'"]*from 'node:child_process'/;
  const faults = [...written].filter(([, text]) => shell.test(text));
  assert.deepEqual(
    faults.map(([path]) => path),
    [],
  );
});

test('no test runs alone or forever: only and todo are not left behind', () => {
  const faults = [...written].filter(
    ([path, text]) =>
      path.endsWith('.test.ts') && /\b(?:test|it|describe|suite)\.(?:only|todo)\b/.test(text),
  );
  assert.deepEqual(
    faults.map(([path]) => path),
    [],
  );
});

test('every error code of the catalogue is thrown somewhere', () => {
  const text = [...product]
    .filter(([path]) => path !== 'src/core/error-catalogue.ts')
    .map(([, each]) => each)
    .join('\n');
  const unused = Object.keys(ERRORS).filter((code) => !text.includes(`'${code}'`));
  assert.deepEqual(unused, []);
});

test('npm scripts name lanes that exist', () => {
  const manifest = readFileSync(join(ROOT, 'package.json'), 'utf8');
  const lanes = readFileSync(join(ROOT, 'contrib/dev/lanes.mjs'), 'utf8');
  const names = Array.from(manifest.matchAll(/bootstrap\.mjs (\w+)/g), (match) => match[1]);
  assert.ok(names.length > 5);
  for (const name of names) assert.match(lanes, new RegExp(`^  ${name}: lane\\(`, 'm'));
});
