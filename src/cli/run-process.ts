import { BuilderdError, errnoOf, messageOf } from '../core/errors.ts';
import type { Io, ServiceSignal } from './io.ts';

/** Exit codes of a program that a signal stops: 128 plus its number. */
const SIGNAL_EXIT = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
/** 128 plus SIGPIPE. */
const READER_GONE = 141;
const HOST_CANNOT = 3;
type StopName = keyof typeof SIGNAL_EXIT;

/**
 * The process around a program: arguments, signals, exit code. The first signal aborts what runs and
 * lets it clean up; a second one ends the process at once. Whatever a hard exit leaves has a lease
 * that expires.
 */
export async function runProcess(
  run: (argv: readonly string[], io: Io) => Promise<number>,
): Promise<void> {
  const controller = new AbortController();
  const exitWork: (() => void)[] = [];
  let stoppedBy: StopName | undefined;
  let owner: ((name: ServiceSignal) => void) | undefined;
  const onStop = (name: StopName): void => {
    if (owner !== undefined) {
      owner(name);
      return;
    }
    if (stoppedBy !== undefined) process.exit(SIGNAL_EXIT[name]);
    stoppedBy = name;
    controller.abort(
      new BuilderdError('build.cancelled', `Cannot finish the command: ${name} stopped it`),
    );
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, onStop);
  process.on('exit', () => {
    for (const run of exitWork) run();
  });
  process.stdout.on('error', (reason) => {
    // A reader that went away (`builderd … | head`) has what it wanted; no word of it.
    if (errnoOf(reason) === 'EPIPE') process.exit(READER_GONE);
    process.stderr.write(`Cannot write to standard output: ${messageOf(reason)}\n`);
    process.exit(HOST_CANNOT);
  });
  // What is told beside the results may have no reader; the work goes on.
  process.stderr.on('error', () => undefined);

  const io: Io = {
    stdout: process.stdout,
    stderr: process.stderr,
    signal: controller.signal,
    atExit: (run) => void exitWork.push(run),
    ownSignals: (handle) => {
      owner = handle;
    },
  };
  const code = await run(process.argv.slice(2), io);
  // What was printed may not have arrived, as on a full disk: that is no success.
  await new Promise<void>((done) => process.stdout.write('', () => done()));
  // Everything that must end has been awaited; idle keep-alive sockets need not be waited for.
  process.exit(stoppedBy === undefined ? code : SIGNAL_EXIT[stoppedBy]);
}
