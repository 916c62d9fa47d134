/**
 * Text that may be stored, logged and shown as it is: no control characters (NUL, line ends and
 * escape sequences among them) and no half of a surrogate pair.
 */
export function isPlainText(text: string): boolean {
  return text.isWellFormed() && !/\p{Cc}/u.test(text);
}
