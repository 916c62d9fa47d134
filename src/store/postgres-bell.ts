import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Log } from '../core/log.ts';
import type { DoorbellTopic } from './database.ts';
import { type Doorbell, TOPICS } from './doorbell.ts';

export interface PostgresBellOptions {
  readonly config: pg.ClientConfig;
  readonly bell: Doorbell;
  readonly pool: pg.Pool;
  readonly log: Log;
}

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5000;
/** Between two rings of a topic that is rung all the time: each is a transaction. */
const PAUSE_MS = 20;
/** A ring that a crash forgets may be lost: its commit need not wait for the disk. */
const RING = `select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)`;

/**
 * NOTIFY to other processes, and LISTEN on a connection of its own that is made again whenever it
 * breaks. Only a hint: poolers and failovers drop notifications, so every listener polls as well.
 */
export class PostgresBell implements AsyncDisposable {
  readonly #options: PostgresBellOptions;
  /** Tells our own rings, which our listeners have heard already. */
  readonly #self = randomUUID();
  readonly #stop = new AbortController();
  readonly #calling = new Map<DoorbellTopic, 'under way' | 'again'>();
  #hearing: Promise<void> | undefined;
  #client: pg.Client | undefined;

  constructor(options: PostgresBellOptions) {
    this.#options = options;
  }

  /** At most one NOTIFY a topic is under way; what comes meanwhile makes one more, a little later. */
  call(topic: DoorbellTopic): void {
    if (this.#stop.signal.aborted) return;
    if (this.#calling.has(topic)) {
      this.#calling.set(topic, 'again');
      return;
    }
    this.#calling.set(topic, 'under way');
    this.#options.pool
      .query(RING, [channelOf(topic), this.#self])
      .catch((err: unknown) => this.#options.log.debug({ err }, 'Could not ring other processes'))
      .finally(() => {
        const again = this.#calling.get(topic) === 'again';
        this.#calling.delete(topic);
        if (again) setTimeout(() => this.call(topic), PAUSE_MS);
      });
  }

  hear(): void {
    this.#hearing ??= this.#hear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#client?.end();
    await this.#hearing;
  }

  async #hear(): Promise<void> {
    const { signal } = this.#stop;
    for (let waitMs = FIRST_WAIT_MS; !signal.aborted; ) {
      try {
        await this.#hearUntilBroken(() => {
          waitMs = FIRST_WAIT_MS;
        });
      } catch (err) {
        if (!signal.aborted) this.#options.log.warn({ err }, 'Cannot listen for rings; polling');
      }
      if (signal.aborted) return;
      await sleep(waitMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
      waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
    }
  }

  /** Resolves when the connection ends. */
  async #hearUntilBroken(onListening: () => void): Promise<void> {
    const { config, bell, log } = this.#options;
    const client = new pg.Client(config);
    const ended = new Promise<void>((resolve) => client.once('end', resolve));
    client.on('error', (err) => log.debug({ err }, 'The connection that hears rings broke'));
    client.on('notification', ({ channel, payload }) => {
      const topic = TOPICS.find((candidate) => channelOf(candidate) === channel);
      if (topic !== undefined && payload !== this.#self) bell.strike(topic);
    });
    this.#client = client;
    try {
      await client.connect();
      for (const topic of TOPICS) await client.query(`listen ${channelOf(topic)}`);
      onListening();
      // What was rung while nobody heard.
      bell.strikeAll();
      await ended;
    } finally {
      await client.end();
    }
  }
}

function channelOf(topic: DoorbellTopic): string {
  return `builderd_${topic}`;
}
