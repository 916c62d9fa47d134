import type { TSchema } from 'typebox';
import { Type } from '../core/schema/schema-builders.ts';
import { compileSchema } from '../core/schema/compile-schema.ts';
import { BuilderdError } from '../core/errors.ts';
import type { BuildMetrics, ImageFacts, IsolationFacts } from './service/views.ts';

const text = Type.String();
const texts = Type.Array(Type.String());
const named = Type.Record(Type.String(), Type.String());
const number = Type.Number();

const imageFacts = compileSchema(
  Type.Object({
    originalImage: text,
    imageDigest: text,
    layers: texts,
    labels: named,
    command: texts,
    entrypoint: texts,
    workingDir: text,
    env: named,
    exposedPorts: texts,
    user: text,
    volumes: texts,
  } satisfies Record<keyof ImageFacts, TSchema>),
);

const buildMetrics = compileSchema(
  Type.Object({
    pullDurationMs: number,
    extractDurationMs: number,
    buildDurationMs: number,
    optimizeDurationMs: number,
    totalDurationMs: number,
    originalSizeBytes: number,
    rootfsSizeBytes: number,
    compressionRatio: number,
    memoryPeakBytes: number,
    diskUsageBytes: number,
    cpuCoresUsed: number,
    cpuUs: number,
    pulledBytes: number,
  } satisfies Record<keyof BuildMetrics, TSchema>),
);

const isolationFacts = compileSchema(
  Type.Object({
    sandboxId: text,
    networkNamespace: text,
    filesystemNamespace: text,
    securityContexts: texts,
    cgroupPath: text,
  } satisfies Record<keyof IsolationFacts, TSchema>),
);

/** What a worker or a row says of the image. Throws `internal`. */
export function parseImageFacts(raw: unknown): ImageFacts {
  if (imageFacts.accepts(raw)) return raw;
  throw unreadable('image');
}

export function parseBuildMetrics(raw: unknown): BuildMetrics {
  if (buildMetrics.accepts(raw)) return raw;
  throw unreadable('metrics');
}

export function parseIsolationFacts(raw: unknown): IsolationFacts {
  if (isolationFacts.accepts(raw)) return raw;
  throw unreadable('isolation');
}

function unreadable(column: string): BuilderdError {
  return new BuilderdError('internal', `Cannot read ${column} of the build: it has another shape`);
}
