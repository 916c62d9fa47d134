/** Where the worker runs, as the kernel numbers it. */
export interface LaunchStart {
  readonly pid: number;
  readonly networkNamespace: number;
  readonly mountNamespace: number;
}

/** How a launch ended. */
export type LaunchEnd =
  /** The worker never ran: the host refused a step of its isolation. */
  | {
      readonly kind: 'refused';
      readonly step: string;
      /** Which of several mounts or capabilities. */
      readonly value: number;
      readonly errno: number;
    }
  | {
      readonly kind: 'ended';
      /** `init`: the process that waits for the worker died, and the worker with it. */
      readonly how: 'exit' | 'signal' | 'init';
      /** Exit status or number of the signal. */
      readonly value: number;
      /** True when the launcher was asked to kill it. */
      readonly stopped: boolean;
      readonly cpuUs: number;
      readonly peakKib: number;
    }
  /** The launcher died, or would not start. */
  | { readonly kind: 'lost'; readonly fact: string };

export interface LaunchReport {
  readonly start?: LaunchStart;
  readonly end?: LaunchEnd;
}

const MAX_LINES = 8;

/** Reads what the launcher (native/helper/launch.c) tells: a line at the start, one at the end. */
export function parseLaunchReport(text: string): LaunchReport {
  let report: LaunchReport = {};
  for (const line of text.split('\n').slice(0, MAX_LINES)) {
    const fields = parseLine(line);
    const launch = fields?.get('launch');
    if (fields === undefined) continue;
    if (launch === 'started') report = { ...report, start: parseStart(fields) };
    if (launch === 'failed') report = { ...report, end: parseRefusal(fields) };
    if (launch === 'ended') report = { ...report, end: parseEnd(fields) };
  }
  return report;
}

type Fields = ReadonlyMap<string, unknown>;

function parseLine(line: string): Fields | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? new Map(Object.entries(value)) : undefined;
  } catch (reason) {
    // A launcher that was killed within a line: as good as no line.
    if (reason instanceof SyntaxError) return undefined;
    throw reason;
  }
}

function parseStart(fields: Fields): LaunchStart {
  return {
    pid: count(fields, 'pid'),
    networkNamespace: count(fields, 'net'),
    mountNamespace: count(fields, 'mnt'),
  };
}

function parseRefusal(fields: Fields): LaunchEnd {
  return {
    kind: 'refused',
    step: String(fields.get('step')),
    value: count(fields, 'value'),
    errno: count(fields, 'errno'),
  };
}

function parseEnd(fields: Fields): LaunchEnd {
  const how = fields.get('how');
  return {
    kind: 'ended',
    how: how === 'exit' || how === 'signal' ? how : 'init',
    value: count(fields, 'value'),
    stopped: fields.get('stopped') === true,
    cpuUs: count(fields, 'cpuUs'),
    peakKib: count(fields, 'peakKib'),
  };
}

function count(fields: Fields, name: string): number {
  const value = fields.get(name);
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : 0;
}
