import { oneLine } from '../../print-fault.ts';
import type { LogEntry } from '../client/answers.ts';

/** One entry for people. A build's output obeys nobody's terminal: escapes are shown, not sent. */
export function logText({ time, level, component, message }: LogEntry): string {
  const clock = new Date(time).toISOString().slice(11, 23);
  const head = `${clock} ${oneLine(level).toUpperCase().padEnd(5)} ${oneLine(component)}: `;
  const lines = message.replaceAll('\t', '    ').split(/\r?\n/).map(oneLine);
  return `${head}${lines.join('\n    ')}\n`;
}
