import { status, type ServiceError } from '@grpc/grpc-js';
import type { ErrorCode } from '../core/error-catalogue.ts';
import { BuilderdError, isBuilderdError, messageOf } from '../core/errors.ts';
import { throwIfAborted } from '../core/scope.ts';
import { socketRefusal } from './socket-address.ts';

export type StatusName = keyof typeof status;

/** What was being done when a call failed. */
export interface FaultContext {
  /** Finishes "Cannot …", for instance `commit blob sha256:…`. */
  readonly doing: string;
  /** Path of the socket. */
  readonly address: string;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
}

const CODES: Partial<Record<StatusName, ErrorCode>> = {
  // Our request was malformed: nothing that an operator can repair.
  INVALID_ARGUMENT: 'internal',
  NOT_FOUND: 'runtime.not_found',
  ALREADY_EXISTS: 'runtime.conflict',
  FAILED_PRECONDITION: 'runtime.conflict',
  ABORTED: 'runtime.conflict',
  OUT_OF_RANGE: 'runtime.conflict',
  PERMISSION_DENIED: 'runtime.permission',
  UNAUTHENTICATED: 'runtime.permission',
  UNIMPLEMENTED: 'runtime.unsupported',
};

/**
 * The one translation of gRPC faults into our catalogue. Typed errors pass unchanged; a call that
 * our own signal ended becomes that signal's reason.
 */
export async function grpcFault(reason: unknown, context: FaultContext): Promise<BuilderdError> {
  if (reason instanceof BuilderdError) return reason;
  const { doing, signal } = context;
  if (signal.aborted) return abortFault(signal, doing);
  if (!isServiceError(reason)) {
    return new BuilderdError('internal', `Cannot ${doing}: ${messageOf(reason)}`, {
      cause: reason,
    });
  }
  const name = statusName(reason);
  // containerd lets the text of disk faults through under various codes (errdefs has none for it).
  if (/no space left on device|disk quota exceeded/i.test(reason.details)) {
    return fault('storage.full', name, `Cannot ${doing}: ${reason.details}`, reason);
  }
  switch (name) {
    case 'DEADLINE_EXCEEDED':
      return fault(
        'runtime.failed',
        name,
        `Cannot ${doing}: containerd did not answer${context.timeoutMs === undefined ? '' : ` within ${context.timeoutMs} ms`}`,
        reason,
      );
    case 'RESOURCE_EXHAUSTED':
      return fault(
        'runtime.failed',
        name,
        `Cannot ${doing}: a message or a queue of containerd is full (${reason.details})`,
        reason,
      );
    case 'UNAVAILABLE':
      // errdefs.ErrUnavailable has no finer code: the content store says "ref … locked for …".
      return /\blocked\b/.test(reason.details)
        ? fault('runtime.conflict', name, `Cannot ${doing}: ${reason.details}`, reason, {
            locked: true,
          })
        : unavailableFault(reason, context);
    default:
      return fault(
        CODES[name] ?? 'runtime.failed',
        name,
        `Cannot ${doing}: ${reason.details}`,
        reason,
      );
  }
}

/** True for an error made here from that gRPC status. */
export function hasStatus(reason: unknown, name: StatusName): reason is BuilderdError {
  return isBuilderdError(reason) && reason.details['grpc'] === name;
}

/** True when another writer holds the ingest's reference. */
export function isLocked(reason: unknown): boolean {
  return isBuilderdError(reason) && reason.details['locked'] === true;
}

/** True when the daemon was not reached, so that an idempotent call may be made again. */
export function isUnreachable(reason: unknown): boolean {
  return isBuilderdError(reason, 'runtime.unreachable');
}

async function unavailableFault(
  reason: ServiceError,
  { doing, address }: FaultContext,
): Promise<BuilderdError> {
  const refusal = await socketRefusal(address);
  switch (refusal) {
    case undefined:
      return fault(
        'runtime.unreachable',
        'UNAVAILABLE',
        `Cannot ${doing}: the connection to ${address} broke (${reason.details})`,
        reason,
      );
    case 'ENOENT':
    case 'ENOTDIR':
      return socketFault('runtime.unreachable', doing, `no socket at ${address}`, reason);
    case 'EACCES':
    case 'EPERM':
      return socketFault('runtime.permission', doing, `no permission to open ${address}`, reason);
    case 'ECONNREFUSED':
      return socketFault('runtime.unreachable', doing, `nothing listens on ${address}`, reason);
    default:
      return socketFault('runtime.unreachable', doing, `${refusal} on ${address}`, reason);
  }
}

function socketFault(
  code: ErrorCode,
  doing: string,
  fact: string,
  cause: ServiceError,
): BuilderdError {
  return fault(code, 'UNAVAILABLE', `Cannot ${doing}: ${fact}`, cause);
}

function fault(
  code: ErrorCode,
  grpc: StatusName,
  message: string,
  cause: ServiceError,
  more: Readonly<Record<string, boolean>> = {},
): BuilderdError {
  return new BuilderdError(code, message, { cause, details: { grpc, ...more } });
}

function abortFault(signal: AbortSignal, doing: string): BuilderdError {
  try {
    throwIfAborted(signal, doing);
  } catch (reason) {
    if (reason instanceof BuilderdError) return reason;
    throw reason;
  }
  return new BuilderdError('internal', `Cannot ${doing}: the signal is not aborted`);
}

function isServiceError(reason: unknown): reason is ServiceError {
  return (
    reason instanceof Error &&
    'code' in reason &&
    typeof reason.code === 'number' &&
    'details' in reason &&
    typeof reason.details === 'string'
  );
}

function statusName(reason: ServiceError): StatusName {
  const name = status[reason.code];
  return name in status ? (name as StatusName) : 'UNKNOWN';
}
