import { resolve } from 'node:path';
import { loadSync, type MessageTypeDefinition, type PackageDefinition } from '@grpc/proto-loader';
import type { TaskExit, TaskExit__Output } from './generated/containerd/events/TaskExit.ts';
import type { TaskOOM, TaskOOM__Output } from './generated/containerd/events/TaskOOM.ts';
import type { Options, Options__Output } from './generated/containerd/runc/v1/Options.ts';
import type { ContainersDefinition } from './generated/containerd/services/containers/v1/Containers.ts';
import type { ContentDefinition } from './generated/containerd/services/content/v1/Content.ts';
import type { DiffDefinition } from './generated/containerd/services/diff/v1/Diff.ts';
import type { EventsDefinition } from './generated/containerd/services/events/v1/Events.ts';
import type { ImagesDefinition } from './generated/containerd/services/images/v1/Images.ts';
import type { IntrospectionDefinition } from './generated/containerd/services/introspection/v1/Introspection.ts';
import type { LeasesDefinition } from './generated/containerd/services/leases/v1/Leases.ts';
import type { NamespacesDefinition } from './generated/containerd/services/namespaces/v1/Namespaces.ts';
import type { SnapshotsDefinition } from './generated/containerd/services/snapshots/v1/Snapshots.ts';
import type { TasksDefinition } from './generated/containerd/services/tasks/v1/Tasks.ts';
import type { VersionDefinition } from './generated/containerd/services/version/v1/Version.ts';

/** The methods of every service that we call, with their encoders. */
export interface Protocol {
  readonly version: VersionDefinition;
  readonly introspection: IntrospectionDefinition;
  readonly namespaces: NamespacesDefinition;
  readonly leases: LeasesDefinition;
  readonly content: ContentDefinition;
  readonly images: ImagesDefinition;
  readonly snapshots: SnapshotsDefinition;
  readonly diff: DiffDefinition;
  readonly containers: ContainersDefinition;
  readonly tasks: TasksDefinition;
  readonly events: EventsDefinition;
  /** What travels inside an Any. */
  readonly messages: {
    readonly runcOptions: MessageTypeDefinition<Options, Options__Output>;
    readonly taskExit: MessageTypeDefinition<TaskExit, TaskExit__Output>;
    readonly taskOom: MessageTypeDefinition<TaskOOM, TaskOOM__Output>;
  };
}

const PROTO_DIR = resolve(import.meta.dirname, '../../proto/containerd');

const SERVICES = {
  version: ['version.proto', 'Version'],
  introspection: ['introspection.proto', 'Introspection'],
  namespaces: ['namespaces.proto', 'Namespaces'],
  leases: ['leases.proto', 'Leases'],
  content: ['content.proto', 'Content'],
  images: ['images.proto', 'Images'],
  snapshots: ['snapshots.proto', 'Snapshots'],
  diff: ['diff.proto', 'Diff'],
  containers: ['containers.proto', 'Containers'],
  tasks: ['tasks.proto', 'Tasks'],
  events: ['events.proto', 'Events'],
} as const satisfies Record<
  Exclude<keyof Protocol, 'messages'>,
  readonly [file: string, service: string]
>;

const MESSAGES = {
  runcOptions: ['runc-options.proto', 'containerd.runc.v1.Options'],
  taskExit: ['task-events.proto', 'containerd.events.TaskExit'],
  taskOom: ['task-events.proto', 'containerd.events.TaskOOM'],
} as const satisfies Record<keyof Protocol['messages'], readonly [file: string, fullName: string]>;

/** Reads our .proto files. The options must say the same as contrib/dev/gen-proto.ts. */
export function loadProtocol(): Protocol {
  const files = [...Object.values(SERVICES), ...Object.values(MESSAGES)].map(([file]) => file);
  const definition = loadSync(files, {
    includeDirs: [PROTO_DIR],
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
  });
  const services = Object.entries(SERVICES).map(([name, [, service]]): [string, unknown] => [
    name,
    entryOf(definition, `containerd.services.${name}.v1.${service}`),
  ]);
  const messages = Object.entries(MESSAGES).map(([name, [, fullName]]): [string, unknown] => [
    name,
    entryOf(definition, fullName),
  ]);
  // The types are generated from the very files that were just loaded.
  return {
    ...Object.fromEntries(services),
    messages: Object.fromEntries(messages),
  } as unknown as Protocol;
}

function entryOf(definition: PackageDefinition, fullName: string): unknown {
  const found = definition[fullName];
  if (found === undefined) throw new Error(`Cannot find ${fullName} in ${PROTO_DIR}`);
  return found;
}
