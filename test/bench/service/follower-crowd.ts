import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { answerCalls } from './answer-calls.ts';

export interface Crowd {
  readonly port: number;
  readonly token: string;
  readonly path: string;
  readonly readers: number;
  /** Ask for the log from its beginning, and then never take a byte. */
  readonly sleepers: number;
  readonly from: number;
}

export interface CrowdReport {
  readonly entries: number;
  /** Milliseconds from the write of an entry to its arrival, of all readers together. */
  readonly delays: Float64Array;
}

const delays: number[] = [];
let entries = 0;

answerCalls({
  async join({ port, token, path, readers, sleepers, from }: Crowd): Promise<void> {
    const ask = async (query: string): Promise<Socket> => {
      const socket = connect({ host: '127.0.0.1', port });
      await once(socket, 'connect');
      socket.write(
        `GET ${path}?from=${query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nAuthorization: Bearer ${token}\r\n\r\n`,
      );
      return socket;
    };
    for (let n = 0; n < sleepers; n += 1) (await ask('0')).pause();
    for (let n = 0; n < readers; n += 1) {
      const socket = await ask(String(from));
      const [head] = (await once(socket, 'data')) as [Buffer];
      if (!head.toString('latin1').startsWith('HTTP/1.1 200')) {
        throw new Error(`the api answered ${head.toString('latin1', 0, 300)}`);
      }
      socket.on('data', note);
    }
  },
  async report(): Promise<CrowdReport> {
    return await Promise.resolve({ entries, delays: Float64Array.from(delays) });
  },
});

/** Each entry's message is the time of its write. One entry for each piece is looked at: its first. */
function note(piece: Buffer): void {
  const now = Date.now();
  for (let at = piece.indexOf('at='); at !== -1; at = piece.indexOf('at=', at + 3)) {
    const writtenAt = Number(piece.toString('latin1', at + 3, at + 16));
    if (!(writtenAt > 0)) continue;
    delays.push(now - writtenAt);
    entries += 1;
  }
}
