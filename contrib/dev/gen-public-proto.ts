import { readFile, mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { runProgram } from './run-program.ts';

/**
 * Writes src/api/rpc/generated from proto/builder/v1; with --check it writes nothing and fails when
 * the committed file differs. Wants Debian's protobuf-compiler.
 */
const root = resolve(import.meta.dirname, '../..');
const NAME = 'builder/v1/builder.proto';
const target = join(root, 'src/api/rpc/generated');
const FILES = ['builder_pb.js', 'builder_pb.d.ts'];

async function generate(): Promise<Map<string, string>> {
  const scratch = await mkdtemp(join(tmpdir(), 'builderd-gen-'));
  try {
    const plugin = join(root, 'node_modules/.bin/protoc-gen-es');
    await runProgram('protoc', [
      ...['-I', join(root, 'proto'), `--plugin=protoc-gen-es=${plugin}`],
      ...[`--es_out=${scratch}`, '--es_opt=target=js+dts', NAME],
    ]);
    return await readAll(join(scratch, dirname(NAME)));
  } finally {
    await rm(scratch, { recursive: true });
  }
}

async function readAll(dir: string): Promise<Map<string, string>> {
  return new Map(
    await Promise.all(
      FILES.map(async (name) => {
        const text = await readFile(join(dir, name), 'utf8').catch(() => '');
        return [name, text] as const;
      }),
    ),
  );
}

const wanted = await generate();
if (process.argv.includes('--check')) {
  const found = await readAll(target);
  if (FILES.some((name) => found.get(name) !== wanted.get(name))) {
    console.error('src/api/rpc/generated differs\nRun: node contrib/dev/gen-public-proto.ts');
    process.exitCode = 1;
  }
} else {
  await mkdir(target, { recursive: true });
  for (const [name, text] of wanted) await writeFile(join(target, name), text);
}
