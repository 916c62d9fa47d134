/**
 * A message as gRPC wants it in `grpc-message`: UTF-8, with percent signs for what is not printable
 * ASCII and for the percent sign, and for nothing else. Clients decode by different rules: one that
 * leaves `%3A` alone must not meet it where a colon may stand.
 */
export function encodeGrpcMessage(message: string): string {
  return Array.from(Buffer.from(message, 'utf8'), (byte) =>
    byte >= 0x20 && byte <= 0x7e && byte !== 0x25
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
  ).join('');
}

const FIELD = 'grpc-message';

/** The protocol's library encodes punctuation as well: this takes that back. */
export function plainGrpcMessage(trailer: Headers | undefined): void {
  const encoded = trailer?.get(FIELD);
  if (encoded === null || encoded === undefined) return;
  trailer?.set(FIELD, encodeGrpcMessage(decodeURIComponent(encoded)));
}
