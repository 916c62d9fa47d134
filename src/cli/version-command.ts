import type { Io } from './io.ts';
import { builderdVersion } from './version.ts';

export function printVersion(io: Io, { json }: { readonly json: boolean }): void {
  const version = builderdVersion();
  const node = process.versions.node;
  const platform = `${process.platform}/${process.arch}`;
  io.stdout.write(
    json
      ? `${JSON.stringify({ version, node, platform })}\n`
      : `builderd ${version} (Node ${node}, ${platform})\n`,
  );
}
