/**
 * Characters that a terminal or a text viewer obeys instead of showing: controls but the tab, the
 * second set of controls, marks that turn the direction of text, separators of lines.
 */
const OBEYED =
  /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** The text with those characters spelled out, `\x1b` for escape; half characters become U+FFFD. */
export function readableText(text: string): string {
  return text.toWellFormed().replace(OBEYED, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100
      ? `\\x${code.toString(16).padStart(2, '0')}`
      : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** At most `maxBytes` of UTF-8, whole characters only, and how many bytes were cut off. */
export function clipText(
  text: string,
  maxBytes: number,
): { readonly text: string; readonly cutBytes: number } {
  // No character of UTF-16 takes more than three bytes.
  if (text.length * 3 <= maxBytes) return { text, cutBytes: 0 };
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= maxBytes) return { text, cutBytes: 0 };
  let end = maxBytes;
  // Bytes 10xxxxxx continue a character.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return { text: bytes.toString('utf8', 0, end), cutBytes: bytes.length - end };
}
