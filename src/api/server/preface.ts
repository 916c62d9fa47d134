/** What every HTTP/2 client sends first, RFC 9113 section 3.4. */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** Which protocol a connection speaks, by its first bytes; `undefined` when more are needed. */
export function protocolOf(head: Buffer): 'h1' | 'h2' | undefined {
  const length = Math.min(head.length, PREFACE.length);
  if (!head.subarray(0, length).equals(PREFACE.subarray(0, length))) return 'h1';
  return length === PREFACE.length ? 'h2' : undefined;
}
