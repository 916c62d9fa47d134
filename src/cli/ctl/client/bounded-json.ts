import { BuilderdError } from '../../../core/errors.ts';

/** JSON of an answer; its text is bounded by who read it. Throws `server.invalid`. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (reason) {
    // The cause quotes the text, which may hold anything: it is told apart from the message.
    throw new BuilderdError('server.invalid', "Cannot read the server's answer: it is no JSON", {
      cause: reason,
    });
  }
}

/** Characters that a terminal or a reader's eye would obey; JSON.stringify escapes only some. */
const OBEYED = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** JSON that is safe to show: all those characters can only stand inside of texts. */
export function safeJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replaceAll(
    OBEYED,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
