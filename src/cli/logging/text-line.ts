import { oneLine } from '../print-fault.ts';

/** `2026-11-23T23:00:00.000Z ERROR message key=value …` from one JSON line. */
export function textLine(json: string): string {
  const record: unknown = JSON.parse(json);
  if (typeof record !== 'object' || record === null) return json;
  const fields = new Map<string, unknown>(Object.entries(record));
  const head = ['time', 'level', 'msg'].map((key) => shown(fields.get(key)));
  const rest: string[] = [];
  for (const [key, value] of fields) {
    if (key !== 'time' && key !== 'level' && key !== 'msg') rest.push(`${key}=${quoted(value)}`);
  }
  return `${oneLine([...head, ...rest].join(' '))}\n`;
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function quoted(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value);
  return /^[\w./:@+-]+$/.test(value) ? value : JSON.stringify(value);
}
