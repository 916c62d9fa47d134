import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/**
 * Writes src/runtime/generated from proto/containerd; with --check it writes nothing and fails
 * when the committed files differ. The options must say the same as src/runtime/protocol.ts.
 */
const root = resolve(import.meta.dirname, '../..');
const protoDir = join(root, 'proto/containerd');
const outDir = join(root, 'src/runtime/generated');

async function generate(into: string): Promise<void> {
  const names = await readdir(protoDir);
  const args = [
    '--keepCase',
    '--longs=String',
    '--enums=String',
    '--defaults',
    '--grpcLib=@grpc/grpc-js',
    '--importFileExtension=.ts',
    `--includeDirs=${protoDir}`,
    `--outDir=${into}`,
    ...names.filter((name) => name.endsWith('.proto')).sort(),
  ];
  const tool = join(root, 'node_modules/@grpc/proto-loader/build/bin/proto-loader-gen-types.js');
  const code = await new Promise<number | null>((done, fail) => {
    spawn(process.execPath, [tool, ...args], { cwd: protoDir, stdio: 'inherit' })
      .once('close', done)
      .once('error', fail);
  });
  if (code !== 0)
    throw new Error(`Cannot generate types: proto-loader-gen-types ended with ${code}`);
  await tidy(into);
}

/**
 * Drops what we have no use for (one file per .proto for `loadPackageDefinition`, and the types of
 * descriptor.proto that the tool always adds) and the absolute path in each first line.
 */
async function tidy(dir: string): Promise<void> {
  for (const [name, text] of await readTree(dir)) {
    const path = join(dir, name);
    const kept =
      name.includes('/') &&
      (!name.startsWith('google/protobuf/') || /\/(Any|Empty|FieldMask|Timestamp)\.ts$/.test(name));
    if (kept) {
      await writeFile(
        path,
        text.replace(/^\/\/ Original file: .*\n/, '// Generated: see contrib/dev/gen-proto.ts\n'),
      );
    } else {
      await rm(path);
    }
  }
}

async function readTree(dir: string): Promise<Map<string, string>> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = new Map<string, string>();
  for (const entry of entries.filter((entry) => entry.isFile())) {
    const path = join(entry.parentPath, entry.name);
    files.set(path.slice(dir.length + 1), await readFile(path, 'utf8'));
  }
  return files;
}

async function differences(): Promise<string[]> {
  const scratch = await mkdtemp(join(tmpdir(), 'builderd-gen-'));
  try {
    await generate(scratch);
    const [want, have] = await Promise.all([readTree(scratch), readTree(outDir)]);
    const names = new Set([...want.keys(), ...have.keys()]);
    return [...names].filter((name) => want.get(name) !== have.get(name)).sort();
  } finally {
    await rm(scratch, { recursive: true });
  }
}

if (process.argv.includes('--check')) {
  const stale = await differences();
  for (const name of stale) console.error(`src/runtime/generated/${name} differs`);
  if (stale.length > 0) console.error('Run: node contrib/dev/gen-proto.ts');
  process.exitCode = stale.length > 0 ? 1 : 0;
} else {
  await rm(outDir, { recursive: true, force: true });
  await generate(outDir);
}
