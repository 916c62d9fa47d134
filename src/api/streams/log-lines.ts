import type { LogEntry } from '../../builds/service/views.ts';

/** One entry for people: time, level, component, message; continued lines are indented. */
export function plainLine({ time, level, component, message }: LogEntry): string {
  const head = `${new Date(time).toISOString()} ${level.toUpperCase().padEnd(5)} ${component}: `;
  return `${head}${harmless(message).replaceAll('\n', '\n    ')}\n`;
}

/** One entry for programs. */
export function jsonLine(entry: LogEntry): string {
  return `${JSON.stringify(presentLogEntry(entry))}\n`;
}

export function presentLogEntry({ n, time, level, component, message, metadata }: LogEntry): {
  readonly n: number;
  readonly time: string;
  readonly level: string;
  readonly component: string;
  readonly message: string;
  readonly metadata?: Readonly<Record<string, string>>;
} {
  return {
    n,
    time: new Date(time).toISOString(),
    level,
    component,
    message,
    ...(metadata === undefined ? {} : { metadata }),
  };
}

/** A terminal obeys control bytes; here they are shown. Line breaks and tabs stay. */
function harmless(text: string): string {
  return text.replaceAll(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
