import type { Any } from './generated/google/protobuf/Any.ts';

/**
 * Go's typeurl registers exact strings, without "type.googleapis.com/". These carry JSON, unlike
 * every other Any of containerd.
 */
export const RUNTIME_SPEC_URL = 'types.containerd.io/opencontainers/runtime-spec/1/Spec';

export function anyOfJson(typeUrl: string, value: unknown): Any {
  return { type_url: typeUrl, value: Buffer.from(JSON.stringify(value)) };
}
