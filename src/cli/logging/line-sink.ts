import { closeSync, constants, fchownSync, fstatSync, openSync, write } from 'node:fs';
import { Socket } from 'node:net';
import { BuilderdError, errnoOf } from '../../core/errors.ts';

export interface LineSinkOptions {
  /** A descriptor that stays the caller's, or a file that is appended to and can be opened anew. */
  readonly target:
    | { readonly fd: number }
    | {
        readonly file: string;
        /** Whose file it becomes when root opens it: the others must be able to open it later. */
        readonly owner?: { readonly uid: number; readonly gid: number };
      };
  /** Bytes that may wait for the reader. */
  readonly maxBufferedBytes: number;
  /** Makes the line that says how many were lost. */
  readonly describeDrops: (lines: number) => string;
  readonly onDrop: (lines: number) => void;
}

/** Writes one piece; `done` gets the fault, if any. Never blocks the event loop. */
interface Channel {
  write(bytes: Buffer, done: (fault: Error | null | undefined) => void): void;
  close(): void;
}

const PIECE_BYTES = 256 * 1024;
const FILE_MODE = 0o640;

/**
 * Lines to a descriptor whose reader may be slow, stuck or gone. What does not fit into the buffer
 * is dropped, newest first, and counted; the service goes on.
 */
export class LineSink {
  readonly #options: LineSinkOptions;
  #channel: Channel;
  #waiting: string[] = [];
  #waitingBytes = 0;
  #flightBytes = 0;
  #dropped = 0;
  #idle: (() => void)[] = [];

  /** Opens its target at once: after a change of user it might no longer be allowed to. */
  constructor(options: LineSinkOptions) {
    this.#options = options;
    this.#channel = openChannel(options.target);
  }

  write(line: string): void {
    const bytes = Buffer.byteLength(line);
    if (this.#waitingBytes + this.#flightBytes + bytes > this.#options.maxBufferedBytes) {
      this.#dropped += 1;
      this.#options.onDrop(1);
      return;
    }
    this.#waiting.push(line);
    this.#waitingBytes += bytes;
    this.#pump();
  }

  /** A rotated file gets a successor; a descriptor stays what it is. Throws when it cannot be opened. */
  reopen(): void {
    if ('fd' in this.#options.target) return;
    const next = openChannel(this.#options.target);
    const before = this.#channel;
    this.#channel = next;
    // A write in flight still has the old descriptor.
    if (this.#flightBytes === 0) before.close();
    else this.#idle.push(() => before.close());
  }

  /** Resolves when everything is written, or after `limitMs`. */
  async flush(limitMs: number): Promise<void> {
    if (this.#flightBytes === 0 && this.#waiting.length === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs);
      this.#idle.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #pump(): void {
    if (this.#flightBytes > 0) return;
    if (this.#waiting.length === 0) {
      for (const run of this.#idle.splice(0)) run();
      return;
    }
    const { text, lines } = this.#takePiece();
    const bytes = Buffer.from(text);
    this.#flightBytes = bytes.length;
    this.#channel.write(bytes, (fault) => {
      this.#flightBytes = 0;
      if (fault) {
        // Nobody reads, or the disk is full: lines are lost, the service is not.
        this.#dropped += lines;
        this.#options.onDrop(lines);
      } else if (this.#dropped > 0) {
        const lost = this.#dropped;
        this.#dropped = 0;
        this.write(this.#options.describeDrops(lost));
      }
      this.#pump();
    });
  }

  #takePiece(): { readonly text: string; readonly lines: number } {
    let bytes = 0;
    let count = 0;
    while (count < this.#waiting.length && bytes < PIECE_BYTES) {
      bytes += Buffer.byteLength(this.#waiting[count] ?? '');
      count += 1;
    }
    this.#waitingBytes -= bytes;
    return { text: this.#waiting.splice(0, count).join(''), lines: count };
  }
}

function openChannel(target: LineSinkOptions['target']): Channel {
  if ('file' in target) {
    return fileChannel(openLogFile(target.file, target.owner), { own: true });
  }
  const { fd } = target;
  const stat = fstatSync(fd);
  if (stat.isFIFO()) return pipeChannel(fd);
  // journald's end is a socket; a socket cannot be opened a second time.
  if (stat.isSocket()) return socketChannel(fd);
  return fileChannel(fd, { own: false });
}

/**
 * Root opens it in a directory of the service user, who may have put anything there: a pipe to block
 * on, or another name of a file that is not his. Throws `config.invalid`.
 */
function openLogFile(
  file: string,
  owner: { readonly uid: number; readonly gid: number } | undefined,
): number {
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants;
  const flags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
  const fd = openSync(file, flags, FILE_MODE);
  if (owner === undefined) return fd;
  const stat = fstatSync(fd);
  if (!stat.isFile() || stat.nlink !== 1 || (stat.uid !== 0 && stat.uid !== owner.uid)) {
    closeSync(fd);
    throw new BuilderdError(
      'config.invalid',
      `Cannot write the log to ${JSON.stringify(file)}: it is no file of the service user's alone`,
    );
  }
  fchownSync(fd, owner.uid, owner.gid);
  return fd;
}

/**
 * A pipe is opened a second time through /proc: only our own description becomes non-blocking, and
 * no thread of the pool ever waits in write(2) for a reader that is stuck.
 */
function pipeChannel(fd: number): Channel {
  try {
    return socketChannel(
      openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK),
    );
  } catch (reason) {
    const errno = errnoOf(reason);
    // ENXIO: no reader is left. EACCES: another user's pipe. ENOENT: no /proc.
    if (errno === 'ENXIO' || errno === 'EACCES' || errno === 'ENOENT') return socketChannel(fd);
    throw reason;
  }
}

function socketChannel(fd: number): Channel {
  const socket = new Socket({ fd, readable: false, writable: true });
  socket.unref();
  // Each write's callback gets the fault; without a listener it would end the process.
  socket.on('error', () => undefined);
  return {
    write: (bytes, done) => void socket.write(bytes, done),
    close: () => socket.destroy(),
  };
}

function fileChannel(fd: number, { own }: { readonly own: boolean }): Channel {
  const writeRest: Channel['write'] = (bytes, done) => {
    write(fd, bytes, (fault, written) => {
      if (fault !== null || written === bytes.length) done(fault);
      else writeRest(bytes.subarray(written), done);
    });
  };
  return { write: writeRest, close: () => own && closeSync(fd) };
}
