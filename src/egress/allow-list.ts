import { BuilderdError } from '../core/errors.ts';
import {
  type AddressBytes,
  type Cidr,
  cidrContains,
  classifyAddress,
  parseCidr,
} from './address.ts';
import { type CanonicalHost, canonicalHost } from './host.ts';

export interface EgressTarget {
  /** As asked for, before resolving. */
  readonly host: CanonicalHost;
  readonly address: AddressBytes;
  readonly port: number;
}

type AllowEntry =
  | { readonly kind: 'address'; readonly cidr: Cidr; readonly port?: number }
  | { readonly kind: 'name'; readonly host: CanonicalHost; readonly port: number };

/** The operator's exceptions to the rule that only public addresses are dialled. */
export class EgressAllowList {
  readonly #entries: readonly AllowEntry[];

  constructor(entries: readonly AllowEntry[]) {
    this.#entries = entries;
  }

  permits(target: EgressTarget): boolean {
    const kind = classifyAddress(target.address);
    if (kind === 'public') return true;
    // A name is only as good as its DNS: it may stand for a near host, never for a metadata service.
    const nameCounts = kind === 'loopback' || kind === 'private';
    return this.#entries.some((entry) =>
      entry.kind === 'name'
        ? nameCounts && entry.host === target.host && entry.port === target.port
        : (entry.port === undefined || entry.port === target.port) &&
          cidrContains(entry.cidr, target.address),
    );
  }
}

/**
 * Parses `host:port`, an address or a CIDR with an optional `:port`, separated by commas; IPv6
 * with a port is written in brackets (`[fd00::/8]:5000`). Throws `config.invalid`.
 */
export function parseEgressAllow(text: string): EgressAllowList {
  const parts = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  return new EgressAllowList(parts.map(parseEntry));
}

function parseEntry(text: string): AllowEntry {
  const whole = parseCidr(text);
  if (whole !== undefined) return { kind: 'address', cidr: whole };
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::([1-9]\d{0,4}))?$/.exec(text);
  const port = match?.[3] === undefined ? undefined : Number(match[3]);
  const target = match?.[1] ?? match?.[2];
  if (target === undefined || (port !== undefined && port > 65_535)) throw badEntry(text);
  const cidr = parseCidr(target);
  if (cidr !== undefined) return { kind: 'address', cidr, ...(port === undefined ? {} : { port }) };
  if (port === undefined || match?.[1] !== undefined) throw badEntry(text);
  return { kind: 'name', host: parseName(target, text), port };
}

function parseName(target: string, text: string): CanonicalHost {
  try {
    return canonicalHost(target);
  } catch (reason) {
    throw badEntry(text, reason);
  }
}

function badEntry(text: string, cause?: unknown): BuilderdError {
  return new BuilderdError(
    'config.invalid',
    `Cannot allow egress to ${JSON.stringify(text.slice(0, 100))}: want host:port, an address or a CIDR with an optional :port`,
    cause === undefined ? {} : { cause },
  );
}
