import { isIPv4, isIPv6 } from 'node:net';

/** Network-order bytes: 4 of IPv4, 16 of IPv6. IPv4-mapped IPv6 is always kept as IPv4. */
export type AddressBytes = readonly number[];

export interface Cidr {
  readonly bytes: AddressBytes;
  readonly prefix: number;
}

/** Why an address may not be dialled without the operator's word. */
export type AddressClass =
  | 'public'
  /** Reachable only from near: an allow-listed host name may stand for it. */
  | 'loopback'
  | 'private'
  /** Never meant as a server of ours: only an allow-listed address opens it. */
  | 'link-local'
  | 'metadata'
  | 'unspecified'
  | 'multicast'
  | 'reserved';

/** Accepts the canonical spellings only (net.isIP); undefined for anything else, zone ids too. */
export function parseAddress(text: string): AddressBytes | undefined {
  if (isIPv4(text)) return text.split('.').map(Number);
  if (!isIPv6(text) || text.includes('%')) return undefined;
  return unmap(parseIpv6(text));
}

/** Parses `address` or `address/prefix`; undefined when it is neither. */
export function parseCidr(text: string): Cidr | undefined {
  const [address = '', prefixText, ...rest] = text.split('/');
  const raw = isIPv6(address) && !address.includes('%') ? parseIpv6(address) : undefined;
  const bytes = parseAddress(address);
  if (bytes === undefined || rest.length > 0) return undefined;
  const unmapped = raw !== undefined && bytes.length === 4;
  const full = unmapped ? 128 : bytes.length * 8;
  if (prefixText === undefined) return { bytes, prefix: bytes.length * 8 };
  if (!/^(?:0|[1-9]\d{0,2})$/.test(prefixText)) return undefined;
  const prefix = Number(prefixText) - (unmapped ? 96 : 0);
  return Number(prefixText) <= full && prefix >= 0 ? { bytes, prefix } : undefined;
}

export function cidrContains(cidr: Cidr, bytes: AddressBytes): boolean {
  if (bytes.length !== cidr.bytes.length) return false;
  for (let bit = 0; bit < cidr.prefix; bit += 8) {
    const used = Math.min(8, cidr.prefix - bit);
    const mask = (0xff << (8 - used)) & 0xff;
    const index = bit >> 3;
    if (((bytes[index] ?? 0) & mask) !== ((cidr.bytes[index] ?? 0) & mask)) return false;
  }
  return true;
}

// IANA special-purpose registries for IPv4 and IPv6; metadata first, because it lies in larger blocks.
const CLASSES: readonly (readonly [string, AddressClass])[] = [
  ['169.254.169.254/32', 'metadata'], // AWS, GCP, Azure, OpenStack
  ['169.254.170.2/32', 'metadata'], // AWS ECS task credentials
  ['100.100.100.200/32', 'metadata'], // Alibaba
  ['192.0.0.192/32', 'metadata'], // Oracle
  ['168.63.129.16/32', 'metadata'], // Azure wire server: looks public
  ['fd00:ec2::/32', 'metadata'], // AWS
  ['fd20:ce::254/128', 'metadata'], // GCP
  ['0.0.0.0/8', 'unspecified'],
  ['::/128', 'unspecified'],
  ['127.0.0.0/8', 'loopback'],
  ['::1/128', 'loopback'],
  ['10.0.0.0/8', 'private'],
  ['172.16.0.0/12', 'private'],
  ['192.168.0.0/16', 'private'],
  ['100.64.0.0/10', 'private'], // carrier-grade NAT
  ['fc00::/7', 'private'],
  ['169.254.0.0/16', 'link-local'],
  ['fe80::/10', 'link-local'],
  ['224.0.0.0/4', 'multicast'],
  ['ff00::/8', 'multicast'],
  ['192.0.0.0/24', 'reserved'],
  ['192.0.2.0/24', 'reserved'],
  ['192.88.99.0/24', 'reserved'], // 6to4 relays
  ['198.18.0.0/15', 'reserved'],
  ['198.51.100.0/24', 'reserved'],
  ['203.0.113.0/24', 'reserved'],
  ['240.0.0.0/4', 'reserved'], // with broadcast
  ['2001::/23', 'reserved'], // with Teredo, which wraps an IPv4 address
  ['2001:db8::/32', 'reserved'],
  ['2002::/16', 'reserved'], // 6to4 wraps an IPv4 address
  ['3fff::/20', 'reserved'],
];

const TABLE = CLASSES.map(([text, kind]) => ({ cidr: mustParse(text), kind }));
const GLOBAL_UNICAST_V6 = mustParse('2000::/3');

export function classifyAddress(bytes: AddressBytes): AddressClass {
  const found = TABLE.find((row) => cidrContains(row.cidr, bytes));
  if (found !== undefined) return found.kind;
  // Everything that IANA has not handed out, NAT64 (64:ff9b::/96) and IPv4-compatible included.
  if (bytes.length === 16 && !cidrContains(GLOBAL_UNICAST_V6, bytes)) return 'reserved';
  return 'public';
}

/** The spelling that is dialled and shown. */
export function formatAddress(bytes: AddressBytes): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups: string[] = [];
  for (let index = 0; index < 16; index += 2) {
    groups.push((((bytes[index] ?? 0) << 8) | (bytes[index + 1] ?? 0)).toString(16));
  }
  return groups.join(':');
}

function mustParse(text: string): Cidr {
  const cidr = parseCidr(text);
  if (cidr === undefined) throw new TypeError(`not a CIDR: ${text}`);
  return cidr;
}

function parseIpv6(text: string): number[] {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const hexText =
    dotted === null
      ? text
      : `${dotted[1]}${hexPair(dotted[2], dotted[3])}:${hexPair(dotted[4], dotted[5])}`;
  const [head = '', tail] = hexText.split('::');
  const left = groupsOf(head);
  const right = tail === undefined ? [] : groupsOf(tail);
  const groups = [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right];
  return groups.flatMap((group) => [group >> 8, group & 0xff]);
}

function groupsOf(text: string): number[] {
  return text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
}

function hexPair(high: string | undefined, low: string | undefined): string {
  return ((Number(high) << 8) | Number(low)).toString(16);
}

function unmap(bytes: number[]): AddressBytes {
  const mapped =
    bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return mapped ? bytes.slice(12) : bytes;
}
