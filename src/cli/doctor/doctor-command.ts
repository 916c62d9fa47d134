import { styleText } from 'node:util';
import { loadConfig } from '../config.ts';
import type { Io } from '../io.ts';
import { oneLine } from '../print-fault.ts';
import { examineHost } from './examine-host.ts';
import type { Check, Verdict } from './check.ts';

export interface DoctorOptions {
  readonly json?: true;
  readonly containerdAddress?: string;
  readonly config?: string;
}

/** Exit code 0 when images can be converted on this host, 3 when not. */
export async function runDoctor(options: DoctorOptions, io: Io): Promise<number> {
  const config = loadConfig(options.config);
  const address = options.containerdAddress ?? config.settings.CONTAINERD_ADDRESS;
  const checks = await examineHost(config, address, io.signal);
  io.signal.throwIfAborted();
  const convertible = checks.every(({ verdict }) => verdict !== 'fail');
  if (options.json === true) {
    io.stdout.write(`${JSON.stringify({ convertible, checks })}\n`);
  } else {
    io.stdout.write(renderChecks(checks, (verdict, text) => paint(verdict, text)));
    io.stdout.write(`\n${summary(checks)}\n`);
  }
  return convertible ? 0 : 3;
}

const MARKS: Readonly<Record<Verdict, string>> = { ok: 'ok  ', warn: 'warn', fail: 'FAIL' };

/** One line a check, and a second one with what to do. */
export function renderChecks(
  checks: readonly Check[],
  paint: (verdict: Verdict, text: string) => string,
): string {
  const width = Math.max(...checks.map(({ id }) => id.length));
  return checks
    .map(({ id, verdict, fact, advice }) => {
      const line = `${paint(verdict, MARKS[verdict])}  ${id.padEnd(width)}  ${oneLine(fact)}\n`;
      return advice === undefined ? line : `${line}${' '.repeat(width + 8)}→ ${oneLine(advice)}\n`;
    })
    .join('');
}

function summary(checks: readonly Check[]): string {
  const count = (wanted: Verdict): number =>
    checks.filter(({ verdict }) => verdict === wanted).length;
  const verdict = count('fail') === 0 ? 'can' : 'cannot';
  return `This host ${verdict} convert images: ${count('ok')} ok, ${count('warn')} warnings, ${count('fail')} failures`;
}

function paint(verdict: Verdict, text: string): string {
  const format = { ok: 'green', warn: 'yellow', fail: 'red' } as const;
  return styleText(format[verdict], text);
}
