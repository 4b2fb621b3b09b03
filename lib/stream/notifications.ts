import { AsyncResource } from 'node:async_hooks';
import { Observable, type Subscriber } from 'rxjs';
import { PgModuleError } from '../errors/pg-module.error.js';
import { backoffMillis } from '../util/backoff.js';
import type { Clock, Timer } from '../util/clock.js';
import { formatMillis } from '../util/duration.js';
import { ListeningSession, type ListeningClient, type ListeningLimits } from './listening-session.js';
import { assertChannel, assertPayload, type PgNotificationEvent } from './notification.js';
import { NotificationTopic } from './notification-topic.js';

/** Between attempts to come back. A session that has lived for longer than the maximum begins anew. */
const BACKOFF = { baseMillis: 100, maxMillis: 5_000 };
/** How long the connection is kept when nobody listens any more. */
const GRACE_MILLIS = 5_000;

export interface NotificationsSettings {
  /** The pool's name, for messages. */
  readonly name: string;
  /** Opens a connection to the server that takes NOTIFY. */
  readonly connect: (signal: AbortSignal) => Promise<ListeningClient>;
  /** Trying again with the same settings cannot help. */
  readonly isPermanent: (error: Error) => boolean;
  /** Runs the statements of {@link PgNotifications.notify}. */
  readonly pool: { query(text: string, values: unknown[]): Promise<unknown> };
  readonly limits: ListeningLimits;
  /** Something has gone wrong that heals by itself. */
  readonly warn: (message: string) => void;
  /** It has healed. */
  readonly log: (message: string) => void;
  readonly clock: Clock;
}

/**
 * LISTEN and NOTIFY. One connection of its own, beside the pool's, serves all channels; it is opened for the first subscriber
 * and closed some seconds after the last. Inject it: `constructor(private readonly notifications: PgNotifications) {}`.
 */
export class PgNotifications {
  readonly #settings: NotificationsSettings;
  readonly #topics = new Map<string, NotificationTopic>();
  /**
   * Where nothing is ambient. Subscribers are told outside of whatever transaction or request they subscribed in, and
   * whichever of them had the connection opened.
   */
  readonly #outside = new AsyncResource('PgNotifications');
  #session: ListeningSession | undefined;
  #dial: AbortController | undefined;
  #retryTimer: Timer | undefined;
  #graceTimer: Timer | undefined;
  /** Attempts and short sessions in a row that have failed. */
  #failures = 0;
  /** A failure has been told, and its end has not. */
  #isTroubled = false;
  #isClosed = false;
  #closing: Promise<void> | undefined;

  /** @internal Use `createNotifications` or the module. */
  constructor(settings: NotificationsSettings) {
    this.#settings = settings;
  }

  /**
   * The notifications of a channel, shared: LISTEN is sent for the first subscriber and UNLISTEN for the last. Each is told
   * `listening` first, and `gap` after a lost connection has been replaced. Names of channels are case-sensitive.
   *
   * It fails with what cannot heal, such as a wrong password (PgConnectError with `permanent`), and completes at shutdown.
   * Subscribers keep the process alive.
   *
   * @throws PgModuleError `PG_NOTIFICATION_INVALID`; to subscribers after `close()`: `PG_POOL_CLOSED`
   */
  listen(channel: string): Observable<PgNotificationEvent> {
    assertChannel(channel);
    return new Observable((subscriber) => {
      this.#join(channel, subscriber);
      return () => this.#leave(channel, subscriber);
    });
  }

  /**
   * Sends a notification through the pool: at once, or with the COMMIT of the transaction in which it is called. Payloads of
   * up to 7 999 bytes; a transaction sends equal ones only once.
   *
   * @throws PgModuleError `PG_NOTIFICATION_INVALID`, and what `pool.query()` throws
   */
  async notify(channel: string, payload = ''): Promise<void> {
    assertChannel(channel);
    assertPayload(channel, payload);
    await this.#settings.pool.query('SELECT pg_catalog.pg_notify($1, $2)', [channel, payload]);
  }

  /** Completes all subscriptions, and resolves when the connection is closed. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#isClosed = true;
    const topics = [...this.#topics.values()];
    this.#topics.clear();
    const closed = this.#disconnect();
    for (const topic of topics) topic.complete();
    await closed;
  }

  #join(channel: string, subscriber: Subscriber<PgNotificationEvent>): void {
    if (this.#isClosed) {
      subscriber.error(
        new PgModuleError(
          'PG_POOL_CLOSED',
          `PgNotifications of the pool "${this.#settings.name}" is closed: the application is shutting down.`,
        ),
      );
      return;
    }
    let topic = this.#topics.get(channel);
    if (!topic) this.#topics.set(channel, (topic = new NotificationTopic(channel)));
    topic.add(subscriber);
    this.#outside.runInAsyncScope(() => {
      this.#endGrace();
      if (this.#session?.has(channel)) topic.welcome(subscriber);
      else if (this.#session) this.#session.review(channel);
      else if (!this.#dial && this.#retryTimer === undefined) void this.#connect();
    });
  }

  #leave(channel: string, subscriber: Subscriber<PgNotificationEvent>): void {
    const topic = this.#topics.get(channel);
    if (!topic) return;
    topic.delete(subscriber);
    if (topic.size > 0) return;
    this.#topics.delete(channel);
    this.#outside.runInAsyncScope(() => {
      this.#session?.review(channel);
      if (this.#topics.size === 0) this.#beginGrace();
    });
  }

  async #connect(): Promise<void> {
    const { connect, isPermanent } = this.#settings;
    const dial = new AbortController();
    this.#dial = dial;
    let client: ListeningClient;
    try {
      client = await connect(dial.signal);
    } catch (cause) {
      if (dial.signal.aborted) return;
      this.#dial = undefined;
      const error = cause instanceof Error ? cause : new Error(String(cause));
      const isHopeless = isPermanent(error);
      const pauseMillis = this.#pause();
      if (isHopeless) this.#fail([...this.#topics.keys()], error);
      else this.#tellTrouble('no connection for LISTEN', error, pauseMillis);
      return;
    }
    if (dial.signal.aborted) {
      await client.close();
      return;
    }
    this.#dial = undefined;
    this.#begin(client);
  }

  #begin(client: ListeningClient): void {
    const { limits, clock } = this.#settings;
    const since = clock.now();
    const session = new ListeningSession(
      client,
      limits,
      {
        isWanted: (channel) => this.#topics.has(channel),
        established: (channel) => {
          this.#tellRecovery();
          this.#topics.get(channel)?.establish();
        },
        notified: (notification) => this.#topics.get(notification.channel)?.next(notification),
        refused: (channels, error) => this.#fail(channels, error),
        lost: (error) => {
          this.#session = undefined;
          if (clock.now() - since > BACKOFF.maxMillis) this.#failures = 0;
          const pauseMillis = this.#pause();
          if (this.#topics.size > 0) this.#tellTrouble('the connection for LISTEN was lost', error, pauseMillis);
        },
      },
      clock,
    );
    this.#session = session;
    session.hold(this.#topics.size > 0);
    for (const channel of this.#topics.keys()) session.review(channel);
  }

  /** No attempt before its end, whoever subscribes. Returns how long it is. */
  #pause(): number {
    const { clock } = this.#settings;
    const millis = backoffMillis(++this.#failures, BACKOFF, clock);
    this.#retryTimer = clock.setTimeout(() => {
      this.#retryTimer = undefined;
      if (this.#topics.size > 0) void this.#connect();
    }, millis);
    return millis;
  }

  /** What cannot heal is the subscribers' to know. */
  #fail(channels: readonly string[], error: Error): void {
    const topics = channels.map((channel) => this.#topics.get(channel));
    for (const channel of channels) this.#topics.delete(channel);
    if (this.#topics.size === 0) this.#beginGrace();
    for (const topic of topics) topic?.error(error);
  }

  #beginGrace(): void {
    this.#session?.hold(false);
    this.#settings.clock.clearTimeout(this.#graceTimer);
    this.#graceTimer = this.#settings.clock.setTimeout(() => void this.#disconnect(), GRACE_MILLIS, 'background');
  }

  #endGrace(): void {
    this.#settings.clock.clearTimeout(this.#graceTimer);
    this.#graceTimer = undefined;
    this.#session?.hold(true);
  }

  async #disconnect(): Promise<void> {
    const { clock } = this.#settings;
    const session = this.#session;
    this.#session = undefined;
    this.#dial?.abort(new PgModuleError('PG_ABORTED', 'Nobody listens any more.'));
    this.#dial = undefined;
    clock.clearTimeout(this.#graceTimer);
    clock.clearTimeout(this.#retryTimer);
    this.#graceTimer = this.#retryTimer = undefined;
    this.#failures = 0;
    this.#isTroubled = false;
    await session?.close();
  }

  /** The first of a row, and then ever fewer: the second, the fourth, the eighth. */
  #tellTrouble(what: string, error: Error, pauseMillis: number): void {
    this.#isTroubled = true;
    const { name, warn } = this.#settings;
    if ((this.#failures & (this.#failures - 1)) !== 0) return;
    warn(`Pool "${name}": ${what}, next attempt in ${formatMillis(pauseMillis)}: ${error.message}`);
  }

  #tellRecovery(): void {
    if (!this.#isTroubled) return;
    this.#isTroubled = false;
    this.#settings.log(`Pool "${this.#settings.name}": listening again.`);
  }
}
