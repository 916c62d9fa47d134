import { BuilderdError } from '../core/errors.ts';
import { formatBytes, formatDuration } from '../core/units.ts';
import type { BuildResult } from '../builds/request.ts';
import { parseBuildRequest, parseTimeout, type RawBuildOptions } from './build-options.ts';
import { loadConfig } from './config.ts';
import { readGuestInit } from './guest-init.ts';
import type { Io } from './io.ts';
import { oneLine } from './print-fault.ts';
import { chooseView } from './progress/choose-view.ts';

/** `builderd build`: text in, one build, result out. Throws what the build throws. */
export async function runBuild(source: string, raw: RawBuildOptions, io: Io): Promise<void> {
  const config = loadConfig(raw.config);
  const request = parseBuildRequest(source, raw, config, process.arch);
  const timeoutMs = parseTimeout(raw, config);
  const guestInit =
    raw.guestInit === undefined ? undefined : await readGuestInit(raw.guestInit, io);
  const { composeBuild } = await import('./compose.ts');
  const view = chooseView({ progress: raw.progress, quiet: raw.quiet === true }, io);
  let result: BuildResult;
  try {
    using limit = limitedSignal(io.signal, timeoutMs);
    const { signal } = limit;
    const build = composeBuild({
      config,
      containerdAddress: raw.containerdAddress ?? config.settings.CONTAINERD_ADDRESS,
      namespace: raw.namespace ?? config.settings.CONTAINERD_NAMESPACE,
      ...(guestInit === undefined ? {} : { guestInit }),
    });
    result = await build.run(request, { signal, onProgress: view.onProgress });
  } finally {
    view.stop();
  }
  printResult(result, raw, io);
}

function printResult(result: BuildResult, raw: RawBuildOptions, io: Io): void {
  if (raw.json === true) {
    io.stdout.write(`${JSON.stringify(result)}\n`);
    return;
  }
  if (raw.quiet === true) {
    for (const { path } of result.artifacts) io.stdout.write(`${path}\n`);
    return;
  }
  const { reference, imageDigest, durationMs } = result;
  const lines = [`Built ${reference} (${imageDigest}) in ${formatDuration(durationMs)}`];
  for (const { format, path, sizeBytes, digest } of result.artifacts) {
    lines.push(`  ${format.padEnd(8)} ${path}  ${formatBytes(sizeBytes)}  ${digest}`);
  }
  lines.push(`  metadata ${result.metadataPath}`, `  fidelity ${result.fidelityPath}`);
  io.stdout.write(lines.map((line) => `${oneLine(line)}\n`).join(''));
}

/** The user's signal, or a timer that ends the build with `build.timeout`. */
function limitedSignal(
  signal: AbortSignal,
  timeoutMs: number | undefined,
): { readonly signal: AbortSignal } & Disposable {
  if (timeoutMs === undefined) return { signal, [Symbol.dispose]: () => undefined };
  const limit = new AbortController();
  const timer = setTimeout(() => {
    limit.abort(
      new BuilderdError(
        'build.timeout',
        `Cannot finish the build: it took longer than ${formatDuration(timeoutMs)}`,
      ),
    );
  }, timeoutMs);
  return {
    signal: AbortSignal.any([signal, limit.signal]),
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
