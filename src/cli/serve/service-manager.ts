/** systemd, or whatever started the service and waits to be told. */
export interface ServiceManager {
  /** One state of sd_notify(3): `READY=1`, `STOPPING=1`. Without a manager it goes nowhere. */
  notify(state: string): void;
}
