/** Secrets of the configuration and of requests never reach a log, a trace or an error page. */
export type Redact = (text: string) => string;

const MASK = '***';
/** Shorter ones would mask ordinary words. */
const MIN_SECRET_LENGTH = 6;

/** Forms that give a secret away wherever they stand. Each keeps its first group. */
const PATTERNS: readonly RegExp[] = [
  /(\b[a-z][a-z0-9+.-]{1,20}:\/\/[^\s/:@"']{0,200}:)[^\s@/"']{1,2000}(?=@)/gi,
  /(\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}/gi,
  /([?&](?:access_token|token|sig|signature|password|secret|x-amz-(?:signature|credential|security-token))=)[^&\s"']+/gi,
  /()\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*/g,
  /()AGE-SECRET-KEY-1[0-9A-Z]{20,}/g,
  /(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-"]{1,20000}/g,
];

/** `secrets` are values that must never be shown, in any position. */
export function createRedact(secrets: readonly string[]): Redact {
  const known = new Set<string>();
  for (const secret of secrets) {
    if (secret.length < MIN_SECRET_LENGTH) continue;
    // As it looks inside a JSON string, where a quote never stands bare: a line stays JSON.
    known.add(JSON.stringify(secret).slice(1, -1));
    known.add(encodeURIComponent(secret));
  }
  // A secret may hold another: the longest first.
  const ordered = [...known].toSorted((a, b) => b.length - a.length);
  return (text) => {
    let shown = text;
    for (const secret of ordered) shown = shown.replaceAll(secret, MASK);
    for (const pattern of PATTERNS) shown = shown.replace(pattern, `$1${MASK}`);
    return shown;
  };
}
