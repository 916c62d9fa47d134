import { Type } from '../core/schema/schema-builders.ts';
import { compileSchema } from '../core/schema/compile-schema.ts';

/** What an executor tells of its host: JSON in `executors.capabilities`, renewed by its heartbeat. */
export interface HostFacts {
  /** Builds that it runs at once. */
  readonly slots?: number;
  /** Memory that a further build may reserve. */
  readonly freeMemoryBytes?: number;
  /** Disk that a further build may reserve. */
  readonly freeDiskBytes?: number;
  /** False while containerd does not answer. */
  readonly runtimeAvailable?: boolean;
}

const validator = compileSchema(
  Type.Object({
    slots: Type.Optional(Type.Number()),
    freeMemoryBytes: Type.Optional(Type.Number()),
    freeDiskBytes: Type.Optional(Type.Number()),
    runtimeAvailable: Type.Optional(Type.Boolean()),
  }),
);

/** Never throws: facts that an older or newer executor tells in another way are not known. */
export function parseHostFacts(raw: unknown): HostFacts {
  return validator.accepts(raw) ? raw : {};
}
