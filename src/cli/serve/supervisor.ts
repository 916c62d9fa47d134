import { setTimeout as sleep } from 'node:timers/promises';
import { BuilderdError } from '../../core/errors.ts';
import type { Log } from '../../core/log.ts';
import { Backoff } from './backoff.ts';
import { type RoleEnd, RoleProcess } from './role-process.ts';
import type { FromRole, RoleName, ToRole } from './role-protocol.ts';
import type { ServiceManager } from './service-manager.ts';

type Start = Omit<ToRole & { readonly kind: 'start' }, 'kind' | 'restarts'>;

export interface SupervisorOptions {
  readonly roles: readonly RoleName[];
  readonly log: Log;
  readonly manager: ServiceManager;
  readonly processEnvironment: Readonly<Record<string, string>>;
  /** What a role is told at its start; read again for each start, so that restarts see a reload. */
  readonly startMessage: (role: RoleName) => Start;
  /** Roles get this long to end after a stop before they are killed. */
  readonly stopLimitMs: number;
}

interface Member {
  readonly role: RoleName;
  current?: RoleProcess;
  ready: boolean;
  restarts: number;
  lastAliveAt: number;
}

/** A role that says nothing for so long is stuck: its event loop does not turn. */
const SILENCE_LIMIT_MS = 60_000;
const WATCH_MS = 5000;

/**
 * Keeps the roles running: starts them, starts them again with growing delays when they end, passes
 * signals on, and ends with an error when a role says that its configuration is at fault.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #members: readonly Member[];
  readonly #stop = new AbortController();
  #announced = false;
  #watchedAt = performance.now();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#members = options.roles.map((role) => ({
      role,
      ready: false,
      restarts: 0,
      lastAliveAt: performance.now(),
    }));
  }

  /** Runs until `stop()` or until a role cannot be run; then throws its fault. */
  async run(): Promise<void> {
    const watch = setInterval(() => this.#watch(), WATCH_MS);
    try {
      // A role that cannot run stops the others; they are waited for, too.
      const ends = await Promise.allSettled(this.#members.map((member) => this.#keep(member)));
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    } finally {
      clearInterval(watch);
      this.#options.manager.notify('STOPPING=1');
    }
  }

  /** Idempotent. The roles finish or hand back what they do, then end. */
  stop(reason: string): void {
    if (this.#stop.signal.aborted) return;
    this.#options.log.info({ signal: reason }, 'Stopping the service');
    this.#options.manager.notify('STOPPING=1');
    this.#stop.abort();
    for (const { current } of this.#members) current?.kill('SIGTERM');
  }

  /** The second request: no more waiting. */
  kill(): void {
    for (const { current } of this.#members) current?.kill('SIGKILL');
  }

  /** Tells every role the new settings, which were checked as a whole before. */
  reload(messageFor: (role: RoleName) => ToRole & { readonly kind: 'reload' }): void {
    for (const { role, current } of this.#members) current?.send(messageFor(role));
  }

  async #keep(member: Member): Promise<void> {
    const backoff = new Backoff();
    const { log } = this.#options;
    while (!this.#stop.signal.aborted) {
      const { role } = member;
      const { end, wasReady } = await this.#runOnce(member).catch((reason: unknown) => {
        // No process could be made: the host may have some later.
        log.error({ role, err: reason }, 'Cannot start the process of a role');
        return { end: { code: null, signal: null, ranMs: 0 } satisfies RoleEnd, wasReady: false };
      });
      if (this.#stop.signal.aborted) return;
      if (!wasReady && isConfigurationFault(end)) {
        this.stop(`the ${role} cannot start`);
        throw new BuilderdError('config.invalid', faultText(role, end));
      }
      const delayMs = backoff.next({ ranMs: end.ranMs });
      member.restarts += 1;
      log.error(
        {
          role,
          durationMs: delayMs,
          ...(end.signal === null ? {} : { signal: end.signal }),
          ...(end.code === null ? {} : { status: end.code }),
        },
        'A role ended and will be started again',
      );
      await sleep(delayMs, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
  }

  async #runOnce(member: Member): Promise<{ end: RoleEnd; wasReady: boolean }> {
    const { role } = member;
    const { log, startMessage, processEnvironment } = this.#options;
    const started = await RoleProcess.start(
      {
        role,
        processEnvironment,
        onMessage: (message) => this.#hear(member, message),
        onBadMessage: (reason) =>
          log.error({ role, err: reason }, 'A role sent a malformed message'),
      },
      { kind: 'start', restarts: member.restarts, ...startMessage(role) },
    );
    member.current = started;
    member.ready = false;
    member.lastAliveAt = performance.now();
    log.info({ role, pid: started.pid }, 'Started a role');
    // A stop that came while the process was made did not see it.
    if (this.#stop.signal.aborted) started.kill('SIGTERM');
    const limit = this.#killAfterStop(started);
    try {
      const end = await started.ended;
      return { end, wasReady: member.ready };
    } finally {
      limit[Symbol.dispose]();
      delete member.current;
      member.ready = false;
    }
  }

  #killAfterStop(process: RoleProcess): Disposable {
    let timer: NodeJS.Timeout | undefined;
    const { role } = process;
    const begin = (): void => {
      timer = setTimeout(() => {
        this.#options.log.error({ role }, 'A role did not end in time and is killed');
        process.kill('SIGKILL');
      }, this.#options.stopLimitMs);
    };
    const { signal } = this.#stop;
    if (signal.aborted) begin();
    else signal.addEventListener('abort', begin, { once: true });
    return {
      [Symbol.dispose]: () => {
        signal.removeEventListener('abort', begin);
        clearTimeout(timer);
      },
    };
  }

  #hear(member: Member, message: FromRole): void {
    const { role } = member;
    const { log, manager } = this.#options;
    member.lastAliveAt = performance.now();
    switch (message.kind) {
      case 'alive':
        return;
      case 'ready':
        member.ready = true;
        log.info({ role }, 'A role is ready');
        if (!this.#announced && this.#members.every(({ ready }) => ready)) {
          this.#announced = true;
          manager.notify('READY=1');
        }
        return;
      case 'reloaded':
        log.info(
          { role, setting: message.applied.join(' '), count: message.applied.length },
          'Applied the reloaded settings',
        );
        if (message.pending.length > 0) {
          log.warn(
            { role, setting: message.pending.join(' ') },
            'These settings take effect after a restart',
          );
        }
        return;
      case 'refused':
        log.error({ role, err: message.message }, 'A role keeps its old settings');
        return;
      case 'fault':
        log.error({ role, err: message.message }, 'A role cannot go on');
        return;
    }
  }

  /** Feeds the watchdog while all roles turn, and ends one that does not. */
  #watch(): void {
    const now = performance.now();
    // We were stopped or starved ourselves: what the roles said meanwhile is still unread.
    const slept = now - this.#watchedAt > 3 * WATCH_MS;
    this.#watchedAt = now;
    if (slept) for (const member of this.#members) member.lastAliveAt = now;
    let turning = true;
    for (const member of this.#members) {
      if (member.current === undefined || now - member.lastAliveAt < SILENCE_LIMIT_MS) continue;
      turning = false;
      this.#options.log.error({ role: member.role }, 'A role is stuck and is killed');
      member.lastAliveAt = now;
      member.current.kill('SIGKILL');
    }
    if (turning) this.#options.manager.notify('WATCHDOG=1');
  }
}

/** Exit 2 and what a role calls not retryable: another start would end the same way. */
function isConfigurationFault({ code, fault }: RoleEnd): boolean {
  if (fault !== undefined) return !fault.retryable && fault.exit !== 1;
  return code === 2;
}

function faultText(role: RoleName, { fault, code }: RoleEnd): string {
  return fault === undefined
    ? `Cannot run the ${role}: it ended with exit code ${code}`
    : `Cannot run the ${role}: ${fault.message}`;
}
