import { loadAddon } from '../../../native/addon.ts';

/** systemd, or whatever started the service and waits to be told. */
export interface ServiceManager {
  /** One state of sd_notify(3): `READY=1`, `STOPPING=1`. Without a manager it goes nowhere. */
  notify(state: string): void;
  /** `RELOADING=1` with the time that Type=notify-reload wants. */
  reloading(): void;
}

const NOBODY: ServiceManager = { notify: () => undefined, reloading: () => undefined };

export function connectServiceManager(
  { socket }: { readonly socket?: string },
  onFault: (reason: unknown) => void,
): ServiceManager {
  if (socket === undefined) return NOBODY;
  const addon = loadAddon();
  if (addon === undefined) {
    onFault(new Error('the native addon is not there'));
    return NOBODY;
  }
  const address = Buffer.from(socket);
  const notify = (state: string): void => {
    try {
      addon.sdNotify(address, Buffer.from(state));
    } catch (reason) {
      onFault(reason);
    }
  };
  return {
    notify,
    reloading: () => notify(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`),
  };
}
