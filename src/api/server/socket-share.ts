import type { Socket } from 'node:net';
import { networkOf } from '../http/network-of.ts';

/** What is asked of a socket here. */
export type CountedSocket = Pick<Socket, 'remoteAddress' | 'destroy' | 'once'>;

/** Destroys what one network opens beyond its share, so that it cannot take all sockets. */
export function capByNetwork(
  share: number,
  isProxy: (address: string) => boolean,
): (socket: CountedSocket) => boolean {
  const open = new Map<string, number>();
  return (socket) => {
    const address = socket.remoteAddress;
    if (address === undefined) {
      socket.destroy();
      return false;
    }
    if (isProxy(address)) return true;
    const network = networkOf(address);
    const count = open.get(network) ?? 0;
    if (count >= share) {
      socket.destroy();
      return false;
    }
    open.set(network, count + 1);
    socket.once('close', () => {
      const left = (open.get(network) ?? 1) - 1;
      if (left === 0) open.delete(network);
      else open.set(network, left);
    });
    return true;
  };
}
