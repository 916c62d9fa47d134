export interface StopSignal {
  readonly name: string;
  readonly number: number;
}

/** Linux numbers on x86-64 and arm64 (signal(7)); SIGRTMIN is what glibc and musl leave free. */
const NUMBERS = new Map<string, number>([
  ['HUP', 1],
  ['INT', 2],
  ['QUIT', 3],
  ['ILL', 4],
  ['TRAP', 5],
  ['ABRT', 6],
  ['BUS', 7],
  ['FPE', 8],
  ['KILL', 9],
  ['USR1', 10],
  ['SEGV', 11],
  ['USR2', 12],
  ['PIPE', 13],
  ['ALRM', 14],
  ['TERM', 15],
  ['STKFLT', 16],
  ['CHLD', 17],
  ['CONT', 18],
  ['STOP', 19],
  ['TSTP', 20],
  ['TTIN', 21],
  ['TTOU', 22],
  ['URG', 23],
  ['XCPU', 24],
  ['XFSZ', 25],
  ['VTALRM', 26],
  ['PROF', 27],
  ['WINCH', 28],
  ['IO', 29],
  ['PWR', 30],
  ['SYS', 31],
]);
const ALIASES = new Map([
  ['POLL', 'IO'],
  ['CLD', 'CHLD'],
  ['IOT', 'ABRT'],
]);
const RTMIN = 34;
const RTMAX = 64;

/** "SIGTERM", "term", "15", "SIGRTMIN+3", "RTMAX-1"; undefined for anything else. */
export function parseStopSignal(text: string): StopSignal | undefined {
  if (/^\d{1,2}$/.test(text)) return fromNumber(Number(text));
  const short = text.toUpperCase().replace(/^SIG/, '');
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(short);
  if (realTime !== null) {
    const offset = Number(realTime[3] ?? 0) * (realTime[2] === '-' ? -1 : 1);
    const number = (realTime[1] === 'MIN' ? RTMIN : RTMAX) + offset;
    return number >= RTMIN ? fromNumber(number) : undefined;
  }
  const name = ALIASES.get(short) ?? short;
  const number = NUMBERS.get(name);
  return number === undefined ? undefined : { name: `SIG${name}`, number };
}

function fromNumber(number: number): StopSignal | undefined {
  if (number >= RTMIN && number <= RTMAX) {
    const offset = number - RTMIN;
    return { name: offset === 0 ? 'SIGRTMIN' : `SIGRTMIN+${offset}`, number };
  }
  for (const [name, value] of NUMBERS) {
    if (value === number) return { name: `SIG${name}`, number };
  }
  return undefined;
}
