import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { BuilderdError } from '../../core/errors.ts';
import { type FromRole, parseToRole, readLines, sendLine, type ToRole } from './role-protocol.ts';

const REPORT_FD = 3;

/** A role's end of the talk with its supervisor. */
export class RoleLink {
  readonly #reports: Socket;
  readonly #lines: AsyncGenerator<string>;

  private constructor(orders: Readable, reports: Socket) {
    this.#lines = readLines(orders);
    this.#reports = reports;
  }

  /** Throws `usage.invalid` when nobody is at the other end. */
  static open(orders: Readable): RoleLink {
    if (!isOpenPipe(REPORT_FD)) {
      throw new BuilderdError(
        'usage.invalid',
        'Cannot run a role by hand: builderd serve --role NAME starts it',
      );
    }
    const reports = new Socket({ fd: REPORT_FD, readable: false, writable: true });
    reports.unref();
    // A supervisor that is gone is noticed at the other end, which is read all the time.
    reports.on('error', () => undefined);
    return new RoleLink(orders, reports);
  }

  async start(): Promise<ToRole & { readonly kind: 'start' }> {
    const { value, done } = await this.#lines.next();
    const message = done === true ? undefined : parseToRole(value);
    if (message?.kind === 'start') return message;
    throw new BuilderdError('internal', 'Cannot start the role: its supervisor went away');
  }

  /** Every later message, until the supervisor is gone. */
  async *orders(): AsyncGenerator<ToRole> {
    for await (const line of this.#lines) yield parseToRole(line);
  }

  report(message: FromRole): void {
    sendLine(this.#reports, message);
  }

  /** Resolves when the last report has left, or after a moment. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 500);
      this.#reports.end(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

function isOpenPipe(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    return stat.isFIFO() || stat.isSocket();
  } catch {
    return false;
  }
}
