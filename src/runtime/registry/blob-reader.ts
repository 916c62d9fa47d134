import { BuilderdError } from '../../core/errors.ts';
import type { Descriptor } from '../../core/oci.ts';
import type { EgressResponse } from '../../egress/dialer.ts';
import { isTransient, unreachable } from '../../egress/faults.ts';
import type { RetryBudget } from './retry-budget.ts';
import type { Timing } from './timing.ts';

export interface BlobReaderDeps {
  /** Asks for the blob, with `Range: bytes=<from>-` when `from` is given; answers 200 or 206. */
  readonly open: (from: number | undefined) => Promise<EgressResponse>;
  readonly budget: RetryBudget;
  readonly timing: Timing;
  readonly wallTimeMs: number;
  readonly signal: AbortSignal;
}

/** Broken transfers in a row that brought nothing. */
const MAX_STALLS = 3;
/** Broken transfers in all, however little each brought. */
const MAX_BREAKS = 20;

/**
 * The bytes of a blob from `offset` to its declared size, across broken connections: each break
 * is resumed by range, or from the start with what is known skipped where the peer cannot.
 * Never yields a byte beyond the declared size. The digest is the store's to check.
 * Throws `source.size_mismatch`, `source.unreachable`, and what `open` throws.
 */
export async function* readBlob(
  descriptor: Descriptor,
  offset: number,
  deps: BlobReaderDeps,
): AsyncGenerator<Buffer, void, void> {
  const deadline = deps.timing.now() + deps.wallTimeMs;
  let at = offset;
  let stalls = 0;
  let shortEnds = 0;
  let ranges = true;
  for (let breaks = 1; at < descriptor.size; breaks += 1) {
    const startedAt = at;
    let fault: BuilderdError;
    try {
      const from = at > 0 && ranges ? at : undefined;
      const response = await deps.open(from);
      let skip = checkStart(response, descriptor, from, at);
      if (skip < 0) {
        // A range other than the one asked for: this peer cannot be resumed.
        response.discard();
        ranges = false;
        fault = unreachable(
          `read ${descriptor.digest}`,
          'it answered another range',
          undefined,
          true,
        );
      } else {
        for await (const chunk of response.body) {
          const used = Math.min(skip, chunk.length);
          skip -= used;
          if (used === chunk.length) continue;
          const fresh = used === 0 ? chunk : chunk.subarray(used);
          if (at + fresh.length > descriptor.size) throw sizeMismatch(descriptor, 'more');
          at += fresh.length;
          yield fresh;
          if (deps.timing.now() > deadline) throw tooSlow(descriptor, deps.wallTimeMs);
        }
        if (at === descriptor.size) return;
        shortEnds += 1;
        if (shortEnds > 1) throw sizeMismatch(descriptor, 'fewer');
        fault = sizeMismatch(descriptor, 'fewer');
      }
    } catch (reason) {
      if (!(reason instanceof BuilderdError) || !isTransient(reason)) throw reason;
      fault = reason;
    }
    stalls = at > startedAt ? 0 : stalls + 1;
    if (stalls >= MAX_STALLS || breaks >= MAX_BREAKS) throw fault;
    await deps.budget.pause(stalls + 1, undefined, fault, { signal: deps.signal });
  }
}

/** How many bytes of the answer are known already; negative when it is another range than asked. */
function checkStart(
  response: EgressResponse,
  descriptor: Descriptor,
  from: number | undefined,
  at: number,
): number {
  const length = response.header('content-length');
  if (response.status === 206) {
    const match = /^bytes (\d{1,16})-(\d{1,16})\/(?:\d{1,16}|\*)$/.exec(
      response.header('content-range') ?? '',
    );
    return from !== undefined && Number(match?.[1]) === from ? 0 : -1;
  }
  if (length !== undefined && Number(length) !== descriptor.size) {
    response.discard();
    throw sizeMismatch(descriptor, Number(length) > descriptor.size ? 'more' : 'fewer');
  }
  return at;
}

function sizeMismatch(descriptor: Descriptor, how: 'more' | 'fewer'): BuilderdError {
  return new BuilderdError(
    'source.size_mismatch',
    `Cannot read ${descriptor.digest}: the source has ${how} bytes than the promised ${descriptor.size}`,
  );
}

function tooSlow(descriptor: Descriptor, wallTimeMs: number): BuilderdError {
  return unreachable(
    `read ${descriptor.digest}`,
    `it took longer than ${Math.round(wallTimeMs / 1000)} s`,
    undefined,
    false,
  );
}
