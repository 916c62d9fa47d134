/** RFC 9530 `sha-256=:…:` for one of our digests; undefined for one that is not hexadecimal. */
export function digestField(digest: string): string | undefined {
  const match = /^sha(256|512):((?:[0-9a-f]{2})+)$/.exec(digest);
  if (match === null) return undefined;
  return `sha-${match[1]}=:${Buffer.from(match[2] ?? '', 'hex').toString('base64')}:`;
}
