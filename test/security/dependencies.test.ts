import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';

const ROOT = resolve(import.meta.dirname, '../..');

interface Locked {
  readonly version?: string;
  readonly integrity?: string;
  readonly hasInstallScript?: boolean;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly link?: boolean;
}

function read(file: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(ROOT, file), 'utf8')) as Record<string, unknown>;
}

const lock = Object.entries(read('package-lock.json')['packages'] as Record<string, Locked>).filter(
  ([path]) => path !== '',
);

test('H20: every package is pinned by version and by the hash of its bytes', () => {
  assert.ok(lock.length > 100);
  for (const [path, { version, integrity, link }] of lock) {
    assert.notEqual(link, true, path);
    assert.match(version ?? '', /^\d+\.\d+\.\d+/, path);
    assert.match(integrity ?? '', /^sha512-[A-Za-z0-9+/]{86}==$/, path);
  }
  const { dependencies, devDependencies } = read('package.json');
  for (const [name, range] of Object.entries({
    ...(dependencies as object),
    ...(devDependencies as object),
  })) {
    assert.match(String(range), /^\d+\.\d+\.\d+$/, name);
  }
});

test('H20: installing runs no program of a package, and one package of the service has one at all', () => {
  const scripts = lock.filter(([, { hasInstallScript }]) => hasInstallScript === true);
  const ofService = scripts.filter(([, { dev }]) => dev !== true).map(([path]) => path);
  // Its script only compares versions, and is not run.
  assert.deepEqual(ofService, ['node_modules/protobufjs']);
  assert.match(readFileSync(join(ROOT, 'contrib/dev/bootstrap.mjs'), 'utf8'), /'--ignore-scripts'/);
});

test('H20: no library that extracts archives is on the path of trust', () => {
  const extractors =
    /(?:^|\/)(?:tar|tar-fs|tar-stream|node-tar|adm-zip|unzipper|yauzl|extract-zip|decompress|jszip|7zip-bin|compressing|unbzip2-stream)$/;
  const found = lock.filter(([path, { dev }]) => dev !== true && extractors.test(path));
  assert.deepEqual(found, []);
});
