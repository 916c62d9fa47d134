import { oneLine } from '../../print-fault.ts';

/** A template whose values are foreign text: none of them can move the cursor or start a line. */
export function told(texts: TemplateStringsArray, ...values: readonly (string | number)[]): string {
  return String.raw({ raw: texts }, ...values.map((value) => oneLine(String(value))));
}
