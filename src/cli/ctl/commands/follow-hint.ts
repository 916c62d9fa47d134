/** What to do after a following that ended before its build. */
export function followHint(id: string, from = 0): string {
  const start = from > 0 ? ` --from ${from}` : '';
  return `Follow it again with \`builderctl logs -f${start} ${id}\`, or cancel it with \`builderctl builds cancel ${id}\`.`;
}
