import { isDigest, sha256 } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import type { Descriptor } from '../../core/oci.ts';
import { DEFAULT_EGRESS_LIMITS, type Dialer, type EgressResponse } from '../../egress/dialer.ts';
import { Authenticator } from './authenticator.ts';
import { readBlob } from './blob-reader.ts';
import { readBounded } from './bounded-body.ts';
import type { CredentialSource } from './credentials.ts';
import { requireDigest } from './document-digest.ts';
import {
  ACCEPT_DOCUMENTS,
  isDocumentType,
  MAX_DOCUMENT_BYTES,
  requireDocumentSize,
} from './documents.ts';
import type { HostsConfig, RegistryEndpoint } from './hosts-config.ts';
import type { HostCapability } from './hosts-toml.ts';
import { formatReference, type ImageReference } from './reference.ts';
import { RetryBudget } from './retry-budget.ts';
import { SYSTEM_TIMING, type Timing } from './timing.ts';
import { errorOf, sendToRegistry } from './transport.ts';

export interface RegistryDeps {
  readonly dialer: Dialer;
  readonly hosts: HostsConfig;
  readonly credentials: CredentialSource;
  /** `host:port` of token servers that may see a registry's credentials beside its own host. */
  readonly trustedRealms?: ReadonlySet<string>;
  readonly timing?: Timing;
}

interface Call {
  readonly signal: AbortSignal;
}

interface Ask {
  readonly method: 'GET' | 'HEAD';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly capability: HostCapability;
  readonly doing: string;
}

const ATTEMPTS = 5;
const DOCUMENT_ATTEMPTS = 3;

/** One repository at one registry, for one acquisition: logins and retry budget end with it. */
export interface RepositoryClient {
  /** The descriptor that the reference stands for now. */
  resolve(call: Call): Promise<Descriptor>;
  /** A manifest or index by its descriptor; size and digest verified. */
  document(descriptor: Descriptor, call: Call): Promise<Buffer>;
  /** The bytes of a blob from `offset` on; resumed when it breaks, size bounded, digest not verified. */
  blob(descriptor: Descriptor, offset: number, call: Call): AsyncIterable<Buffer>;
}

export async function openRepository(
  deps: RegistryDeps,
  reference: ImageReference,
  call: Call,
): Promise<RepositoryClient> {
  const endpoints = await deps.hosts.endpointsFor(reference.registry, call);
  return new Repository(deps, reference, endpoints);
}

class Repository implements RepositoryClient {
  readonly #deps: RegistryDeps;
  readonly #timing: Timing;
  readonly #budget: RetryBudget;
  readonly #authenticator: Authenticator;
  readonly #reference: ImageReference;
  readonly #endpoints: readonly RegistryEndpoint[];

  constructor(
    deps: RegistryDeps,
    reference: ImageReference,
    endpoints: readonly RegistryEndpoint[],
  ) {
    this.#deps = deps;
    this.#timing = deps.timing ?? SYSTEM_TIMING;
    this.#budget = new RetryBudget(this.#timing);
    this.#authenticator = new Authenticator({
      dialer: deps.dialer,
      hosts: deps.hosts,
      credentials: deps.credentials,
      timing: this.#timing,
      trustedRealms: deps.trustedRealms ?? new Set(),
    });
    this.#reference = reference;
    this.#endpoints = endpoints;
  }

  async resolve(call: Call): Promise<Descriptor> {
    const { tag, digest } = this.#reference;
    const doing = `resolve ${formatReference(this.#reference)}`;
    const ask: Ask = {
      method: 'HEAD',
      path: this.#path('manifests', digest ?? tag ?? 'latest'),
      headers: { accept: ACCEPT_DOCUMENTS },
      // A digest cannot lie, so any mirror may answer for it; a tag only where the operator says so.
      capability: digest === undefined ? 'resolve' : 'pull',
      doing,
    };
    return this.#ask(ask, call, async (response, again) => {
      const described = response.status === 200 ? describeHead(response) : undefined;
      response.discard();
      if (described !== undefined) return this.#checked(described, doing);
      // 404 is final; everything else gets a GET: for a body to hash, or for the error's code.
      if (response.status === 404) throw await errorOf(response, doing);
      const got = await again({ ...ask, method: 'GET' });
      if (got.status !== 200) throw await errorOf(got, doing);
      return this.#checked(await describeBody(got, doing), doing);
    });
  }

  async document(descriptor: Descriptor, call: Call): Promise<Buffer> {
    const doing = `read ${descriptor.digest}`;
    requireDocumentSize(descriptor, descriptor.digest);
    const ask: Ask = {
      method: 'GET',
      path: this.#path('manifests', descriptor.digest),
      headers: { accept: `${descriptor.mediaType}, */*;q=0.5` },
      capability: 'pull',
      doing,
    };
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#ask(ask, call, async (response) => {
          if (response.status !== 200) throw await errorOf(response, doing);
          return readDocument(response, descriptor, doing);
        });
      } catch (reason) {
        const again =
          reason instanceof BuilderdError &&
          reason.code === 'source.unreachable' &&
          reason.details['transient'] !== false;
        if (!again || attempt >= DOCUMENT_ATTEMPTS) throw reason;
        await this.#budget.pause(attempt, undefined, reason, call);
      }
    }
  }

  blob(descriptor: Descriptor, offset: number, call: Call): AsyncIterable<Buffer> {
    const doing = `read ${descriptor.digest}`;
    return readBlob(descriptor, offset, {
      open: (from) =>
        this.#ask(
          {
            method: 'GET',
            path: this.#path('blobs', descriptor.digest),
            headers: {
              accept: `${descriptor.mediaType}, */*`,
              ...(from === undefined ? {} : { range: `bytes=${from}-` }),
            },
            capability: 'pull',
            doing,
          },
          call,
          async (response) => {
            if (response.status === 200 || response.status === 206) return response;
            throw await errorOf(response, doing);
          },
        ),
      budget: this.#budget,
      timing: this.#timing,
      wallTimeMs: DEFAULT_EGRESS_LIMITS.wallTimeMs,
      signal: call.signal,
    });
  }

  #path(kind: 'manifests' | 'blobs', name: string): string {
    return `/${this.#reference.repository}/${kind}/${name}`;
  }

  /**
   * Asks the endpoints in order until one gives an answer that `use` accepts. An endpoint that
   * lacks the thing, refuses us or is down passes the question on; a wrong digest never does.
   */
  async #ask<T>(
    ask: Ask,
    call: Call,
    use: (response: EgressResponse, again: (ask: Ask) => Promise<EgressResponse>) => Promise<T>,
  ): Promise<T> {
    const able = this.#endpoints.filter((each) => each.capabilities.has(ask.capability));
    let fault: unknown;
    for (const [index, endpoint] of able.entries()) {
      const isLast = index === able.length - 1;
      const send = (each: Ask): Promise<EgressResponse> =>
        sendToRegistry(
          {
            dialer: this.#deps.dialer,
            authenticator: this.#authenticator,
            budget: this.#budget,
            timing: this.#timing,
          },
          endpoint,
          {
            method: each.method,
            path: each.path,
            headers: each.headers,
            scope: `repository:${this.#reference.repository}:pull`,
            attempts: isLast ? ATTEMPTS : 1,
            signal: call.signal,
          },
        );
      try {
        return await use(await send(ask), send);
      } catch (reason) {
        if (isLast || !passesOn(reason)) throw reason;
        fault = reason;
      }
    }
    throw (
      fault ??
      new BuilderdError(
        'source.unreachable',
        `Cannot ${ask.doing}: no host of ${this.#reference.registry} has the capability ${ask.capability}`,
      )
    );
  }

  #checked(found: Descriptor, doing: string): Descriptor {
    const { digest } = this.#reference;
    if (digest !== undefined && found.digest !== digest) {
      // Asked for by sha512, a registry may well name the same thing by sha256: the GET decides.
      if (digest.slice(0, 6) !== found.digest.slice(0, 6)) return { ...found, digest };
      throw new BuilderdError(
        'source.digest_mismatch',
        `Cannot ${doing}: asked for ${digest}, it offers ${found.digest}`,
      );
    }
    requireDocumentSize(found, found.digest);
    return found;
  }
}

function passesOn(reason: unknown): boolean {
  return (
    reason instanceof BuilderdError &&
    [
      'source.not_found',
      'source.unreachable',
      'source.auth_failed',
      'source.denied_address',
    ].includes(reason.code)
  );
}

/** What a HEAD says, when it says all of it. */
function describeHead(response: EgressResponse): Descriptor | undefined {
  const digest = response.header('docker-content-digest') ?? '';
  const size = Number(response.header('content-length') ?? Number.NaN);
  const mediaType = mediaTypeOf(response);
  if (!isDigest(digest) || !Number.isSafeInteger(size) || !isDocumentType(mediaType))
    return undefined;
  return { mediaType, digest, size };
}

/** The computed digest counts; a header that says otherwise is a lie and an error. */
async function describeBody(response: EgressResponse, doing: string): Promise<Descriptor> {
  refuseEncoding(response, doing);
  const promised = response.header('docker-content-digest');
  const mediaType = mediaTypeOf(response);
  const bytes = await readBounded(response, MAX_DOCUMENT_BYTES, doing);
  if (promised !== undefined && isDigest(promised)) {
    requireDigest(promised, bytes, 'the image manifest');
    return { mediaType, digest: promised, size: bytes.length };
  }
  return { mediaType, digest: sha256(bytes), size: bytes.length };
}

async function readDocument(
  response: EgressResponse,
  descriptor: Descriptor,
  doing: string,
): Promise<Buffer> {
  refuseEncoding(response, doing);
  const said = mediaTypeOf(response);
  // Another document type for the same bytes is the ambiguity of CVE-2021-41190.
  if (
    isDocumentType(said) &&
    isDocumentType(descriptor.mediaType) &&
    said !== descriptor.mediaType
  ) {
    response.discard();
    throw new BuilderdError(
      'source.invalid',
      `Cannot ${doing}: it is served as ${said} but described as ${descriptor.mediaType}`,
    );
  }
  let bytes: Buffer;
  try {
    bytes = await readBounded(response, descriptor.size, doing);
  } catch (reason) {
    if (reason instanceof BuilderdError && reason.code === 'source.too_large') {
      throw sizeMismatch(descriptor, 'more', reason);
    }
    throw reason;
  }
  if (bytes.length < descriptor.size) throw sizeMismatch(descriptor, 'fewer');
  requireDigest(descriptor.digest, bytes, 'the image manifest');
  return bytes;
}

function sizeMismatch(descriptor: Descriptor, how: string, cause?: unknown): BuilderdError {
  return new BuilderdError(
    'source.size_mismatch',
    `Cannot read ${descriptor.digest}: the source has ${how} bytes than the promised ${descriptor.size}`,
    cause === undefined ? {} : { cause },
  );
}

function mediaTypeOf(response: EgressResponse): string {
  return (response.header('content-type') ?? '').split(';', 1).join('').trim().toLowerCase();
}

function refuseEncoding(response: EgressResponse, doing: string): void {
  const encoding = response.header('content-encoding') ?? 'identity';
  if (encoding.toLowerCase() === 'identity') return;
  response.discard();
  throw new BuilderdError(
    'source.unsupported',
    `Cannot ${doing}: it is served with a content encoding that was not asked for`,
  );
}
