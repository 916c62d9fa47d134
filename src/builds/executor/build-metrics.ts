import type { AcquiredImage } from '../ports.ts';
import type { BuildMetrics } from '../service/views.ts';
import type { ConvertedBuild } from '../worker/converter.ts';
import type { AttemptProgress } from './attempt-progress.ts';

/** What a build took, as its caller sees it. Times are of this attempt alone. */
export function buildMetrics(
  image: AcquiredImage,
  converted: ConvertedBuild,
  progress: AttemptProgress,
): BuildMetrics {
  const pull = progress.durationMs('pulling');
  const extract = progress.durationMs('extracting');
  const build = progress.durationMs('building');
  const optimize = progress.durationMs('optimizing');
  const original = sum(image.layers.map((layer) => layer.size));
  const [rootfs] = converted.artifacts;
  const workMs = extract + build;
  return {
    pullDurationMs: pull,
    extractDurationMs: extract,
    buildDurationMs: build,
    optimizeDurationMs: optimize,
    totalDurationMs: pull + extract + build + optimize,
    originalSizeBytes: original,
    rootfsSizeBytes: rootfs?.sizeBytes ?? 0,
    compressionRatio: original === 0 ? 0 : Math.round(((rootfs?.sizeBytes ?? 0) / original) * 100),
    memoryPeakBytes: converted.memoryPeakBytes,
    diskUsageBytes: sum(converted.artifacts.map((artifact) => artifact.sizeBytes)),
    cpuCoresUsed: workMs === 0 ? 0 : Math.ceil(converted.cpuUs / 1000 / workMs),
    cpuUs: converted.cpuUs,
    pulledBytes: progress.pulledBytes,
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
