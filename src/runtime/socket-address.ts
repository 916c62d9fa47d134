import { connect } from 'node:net';
import { isAbsolute } from 'node:path';
import { errnoOf, BuilderdError } from '../core/errors.ts';

/** The path of a socket, from `/run/x.sock` or `unix:///run/x.sock`. Throws `config.invalid`. */
export function parseSocketAddress(text: string): string {
  const path = text.replace(/^unix:(?:\/\/)?/, '');
  if (!isAbsolute(path) || path.includes('\0')) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot use ${JSON.stringify(text)} as containerd's address: want an absolute socket path`,
    );
  }
  return path;
}

/** Undefined when something accepts connections there, else the errno name of the refusal. */
export function socketRefusal(path: string): Promise<string | undefined> {
  return new Promise((done) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      done(undefined);
    });
    socket.once('error', (reason) => done(errnoOf(reason) ?? reason.message));
  });
}
