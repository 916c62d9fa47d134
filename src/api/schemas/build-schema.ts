import type { Static } from 'typebox';
import { Type } from '../../core/schema/schema-builders.ts';
import type { ArtifactView, BuildView } from '../../builds/service/views.ts';
import { WAIT_REASONS } from '../../builds/service/views.ts';
import { BUILD_STATES } from '../../core/build-state.ts';
import { Count, presentTime, TextMap, Texts, Time } from './field-schemas.ts';

export const StateSchema = Type.Enum([...BUILD_STATES], { description: 'State of the build.' });

export const ArtifactSchema = Type.Object(
  {
    name: Type.String({ examples: ['rootfs.ext4'] }),
    format: Type.String(),
    mediaType: Type.String(),
    digest: Type.String({
      description: 'sha256 of the plain bytes; also the ETag of the download.',
    }),
    sizeBytes: Count('Size of the plain bytes.'),
    createdAt: Time('When it was committed.'),
    href: Type.String({ description: 'Where it can be had.' }),
  },
  { $id: 'Artifact' },
);

/** The request as it was understood. Declared field by field: credentials have no field here. */
const SpecEcho = Type.Object({
  source: Type.Object({
    image: Type.Optional(Type.Object({ reference: Type.String() })),
    git: Type.Optional(
      Type.Object({
        url: Type.String(),
        ref: Type.Optional(Type.String()),
        context: Type.Optional(Type.String()),
      }),
    ),
    archive: Type.Optional(
      Type.Object({
        url: Type.String(),
        type: Type.Optional(Type.String()),
        context: Type.Optional(Type.String()),
      }),
    ),
  }),
  target: Type.Optional(
    Type.Object({
      formats: Type.Optional(Type.Array(Type.String())),
      sizeBytes: Type.Optional(Type.Integer()),
      extraBytes: Type.Optional(Type.Integer()),
      label: Type.Optional(Type.String()),
      journal: Type.Optional(Type.Boolean()),
      lostFound: Type.Optional(Type.Boolean()),
      guestFiles: Type.Optional(Type.Boolean()),
      devices: Type.Optional(Type.String()),
      exclude: Type.Optional(Type.Array(Type.String())),
      preserve: Type.Optional(Type.Array(Type.String())),
      removeDocs: Type.Optional(Type.Boolean()),
      removeCache: Type.Optional(Type.Boolean()),
      runtime: Type.Optional(
        Type.Object({
          entrypoint: Type.Optional(Type.Array(Type.String())),
          command: Type.Optional(Type.Array(Type.String())),
          workingDir: Type.Optional(Type.String()),
          env: Type.Optional(TextMap('As given.')),
          exposedPorts: Type.Optional(Type.Array(Type.String())),
        }),
      ),
      sourceDateEpoch: Type.Optional(Type.Integer()),
    }),
  ),
  platform: Type.Optional(Type.String()),
  pullPolicy: Type.Optional(Type.String()),
  timeoutSeconds: Type.Optional(Type.Integer()),
  limits: Type.Optional(
    Type.Object({
      maxMemoryBytes: Type.Optional(Type.Integer()),
      maxDiskBytes: Type.Optional(Type.Integer()),
    }),
  ),
});

const ImageSchema = Type.Object({
  originalImage: Type.String(),
  imageDigest: Type.String(),
  layers: Texts('Digests of the layers.'),
  labels: TextMap('Labels of the image.'),
  command: Texts('Default arguments.'),
  entrypoint: Texts('Program.'),
  workingDir: Type.String(),
  env: TextMap('Environment.'),
  exposedPorts: Texts('Ports.'),
  user: Type.String(),
  volumes: Texts('Volumes.'),
});

const MetricsSchema = Type.Object({
  pullDurationMs: Type.Number(),
  extractDurationMs: Type.Number(),
  buildDurationMs: Type.Number(),
  optimizeDurationMs: Type.Number(),
  totalDurationMs: Type.Number(),
  originalSizeBytes: Type.Number(),
  rootfsSizeBytes: Type.Number(),
  compressionRatio: Type.Number({ description: 'A percentage.' }),
  memoryPeakBytes: Type.Number(),
  diskUsageBytes: Type.Number(),
  cpuCoresUsed: Type.Number(),
  cpuUs: Type.Number(),
  pulledBytes: Type.Number(),
});

const IsolationSchema = Type.Object({
  sandboxId: Type.String(),
  networkNamespace: Type.String(),
  filesystemNamespace: Type.String(),
  securityContexts: Texts('What held the work.'),
  cgroupPath: Type.String({ description: 'Path of its cgroup.' }),
});

export const BuildSchema = Type.Object(
  {
    id: Type.String({ description: 'UUIDv7.' }),
    tenant: Type.String(),
    state: StateSchema,
    name: Type.String(),
    labels: TextMap('As given.'),
    priority: Type.Integer(),
    spec: SpecEcho,
    createdAt: Time('When it was accepted.'),
    startedAt: Type.Optional(Time('When it was first claimed.')),
    finishedAt: Type.Optional(Time('When it ended.')),
    deadlineAt: Type.Optional(Time('When it is stopped.')),
    timeoutMs: Type.Integer(),
    attempt: Type.Integer(),
    cancelRequested: Type.Boolean(),
    progressPercent: Type.Number(),
    currentStep: Type.String(),
    waiting: Type.Optional(
      Type.Object({
        reason: Type.Enum([...WAIT_REASONS]),
        ahead: Count('Builds that come first.'),
        message: Type.String(),
      }),
    ),
    error: Type.Optional(
      Type.Object({
        code: Type.String(),
        message: Type.String(),
        fault: Type.Enum(['user', 'quota', 'platform']),
        hint: Type.String(),
      }),
    ),
    source: Type.Optional(Type.Object({ reference: Type.String(), digest: Type.String() })),
    image: Type.Optional(ImageSchema),
    metrics: Type.Optional(MetricsSchema),
    isolation: Type.Optional(IsolationSchema),
    artifacts: Type.Array(ArtifactSchema),
    steps: Type.Array(
      Type.Object({
        attempt: Type.Integer(),
        state: StateSchema,
        name: Type.String(),
        startedAt: Time('When it began.'),
        finishedAt: Type.Optional(Time('When it ended.')),
        outcome: Type.Optional(Type.String()),
      }),
    ),
    version: Type.Integer({ description: 'Raised by every change; also the ETag.' }),
  },
  { $id: 'Build' },
);

export function presentArtifact(id: string, view: ArtifactView): PresentedArtifact {
  return {
    ...view,
    createdAt: presentTime(view.createdAt),
    href: `/v1/builds/${id}/artifacts/${encodeURIComponent(view.name)}`,
  };
}

/**
 * What the schema above drops (secrets have no field there) need not be dropped here, nor what is
 * undefined. Overwriting a copy costs a fraction of leaving fields out of it.
 */
export function presentBuild(view: BuildView): object {
  const { id, createdAt, startedAt, finishedAt, deadlineAt, artifacts, steps } = view;
  return {
    ...view,
    createdAt: presentTime(createdAt),
    startedAt: presentTimeIfKnown(startedAt),
    finishedAt: presentTimeIfKnown(finishedAt),
    deadlineAt: presentTimeIfKnown(deadlineAt),
    artifacts: artifacts.map((each) => presentArtifact(id, each)),
    steps: steps.map((step) => ({
      ...step,
      startedAt: presentTime(step.startedAt),
      finishedAt: presentTimeIfKnown(step.finishedAt),
    })),
  };
}

function presentTimeIfKnown(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : presentTime(ms);
}

export type PresentedArtifact = Static<typeof ArtifactSchema>;
