import { BuilderdError } from '../../core/errors.ts';
import type { LogEntry, LogLevel } from '../service/views.ts';

export type NewLogEntry = Omit<LogEntry, 'n'>;

const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** One line of a segment: JSON without the number, which follows from the line's place. */
export function encodeLogLine({ time, level, component, message, metadata }: NewLogEntry): string {
  return `${JSON.stringify({ time, level, component, message, metadata })}\n`;
}

/** One line of the artifact `build.log`. */
export function encodeNumberedLine({ n, ...entry }: LogEntry): string {
  const { time, level, component, message, metadata } = entry;
  return `${JSON.stringify({ n, time, level, component, message, metadata })}\n`;
}

/** Throws `internal`: both forms were written by builderd. */
export function parseLogLine(line: string, n: number): LogEntry {
  const raw = parseObject(line);
  const level = LEVELS.find((known) => known === raw['level']);
  const { time, component, message } = {
    time: raw['time'],
    component: raw['component'],
    message: raw['message'],
  };
  if (
    level === undefined ||
    typeof time !== 'number' ||
    typeof component !== 'string' ||
    typeof message !== 'string'
  ) {
    throw unreadable(n);
  }
  const metadata = raw['metadata'];
  if (metadata === undefined) return { n, time, level, component, message };
  return { n, time, level, component, message, metadata: parseMetadata(metadata, n) };
}

/** The entries of a segment from number `from` on. */
export function parseSegment(data: Uint8Array, firstEntry: number, from: number): LogEntry[] {
  const lines = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('utf8');
  return lines
    .split('\n')
    .slice(0, -1)
    .map((line, index) => ({ line, n: firstEntry + index }))
    .filter(({ n }) => n >= from)
    .map(({ line, n }) => parseLogLine(line, n));
}

function parseMetadata(raw: unknown, n: number): Readonly<Record<string, string>> {
  if (typeof raw !== 'object' || raw === null) throw unreadable(n);
  const fields = Object.entries(raw).filter(
    (field): field is [string, string] => typeof field[1] === 'string',
  );
  return Object.fromEntries(fields);
}

function parseObject(line: string): Readonly<Record<string, unknown>> {
  try {
    const raw: unknown = JSON.parse(line);
    if (typeof raw === 'object' && raw !== null) return { ...raw };
  } catch (reason) {
    throw new BuilderdError('internal', 'Cannot read the log: a line is no JSON', {
      cause: reason,
    });
  }
  throw new BuilderdError('internal', 'Cannot read the log: a line is no JSON object');
}

function unreadable(n: number): BuilderdError {
  return new BuilderdError('internal', `Cannot read entry ${n} of the log: fields are missing`);
}
