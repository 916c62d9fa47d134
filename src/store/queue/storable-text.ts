const MAX_LENGTH = 4000;

/** A message as a row may hold it: what PostgreSQL's text cannot hold is taken out. */
export function storableText(text: string): string {
  return text.replaceAll('\0', '').slice(0, MAX_LENGTH).toWellFormed();
}
