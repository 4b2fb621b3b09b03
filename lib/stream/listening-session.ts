import { PgModuleError } from '../errors/pg-module.error.js';
import { isPermanentRefusal } from '../errors/sqlstate.js';
import type { Clock, Timer } from '../util/clock.js';
import { formatMillis } from '../util/duration.js';
import { quoteChannel, type PgNotification } from './notification.js';

/** feature_not_supported: what speaks PostgreSQL's protocol and has no LISTEN. */
const NOT_SUPPORTED = '0A000';

/** A notification as pg's client delivers it. */
export interface NotificationMessage {
  readonly channel: string;
  readonly payload?: string;
  readonly processId: number;
}

/** What a listening session needs of its connection. */
export interface ListeningClient {
  readonly isClosed: boolean;
  query(config: { text: string }): Promise<unknown>;
  close(): Promise<void>;
  destroy(): void;
  /** Whether the socket keeps the process alive. */
  ref(): void;
  unref(): void;
  on(event: 'notification', listener: (message: NotificationMessage) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'end', listener: () => void): unknown;
  off(event: 'notification', listener: (message: NotificationMessage) => void): unknown;
  off(event: 'error', listener: (error: Error) => void): unknown;
  off(event: 'end', listener: () => void): unknown;
}

export interface ListeningLimits {
  /** A connection that has been silent for so long is asked whether it is alive, in milliseconds. */
  readonly keepaliveMillis: number;
  /** How long its answer may take, in milliseconds. */
  readonly keepaliveTimeoutMillis: number;
  /** How long LISTEN and UNLISTEN may take, in milliseconds. */
  readonly listenTimeoutMillis: number;
}

export interface ListeningEvents {
  /** Whether anybody is subscribed to a channel now. */
  readonly isWanted: (channel: string) => boolean;
  /** LISTEN is in force on the channel. */
  readonly established: (channel: string) => void;
  /** Of a channel on which LISTEN is in force. */
  readonly notified: (notification: PgNotification) => void;
  /** The server will never listen on these; the session goes on. */
  readonly refused: (channels: readonly string[], error: Error) => void;
  /** The session is over. Nothing of it is told after this. */
  readonly lost: (error: Error) => void;
}

/**
 * What one connection listens to. Commands go one after the other, and each is worked out from what is wanted when it is
 * sent: so whatever subscribers do meanwhile, the last command says what they want.
 */
export class ListeningSession {
  readonly #client: ListeningClient;
  readonly #limits: ListeningLimits;
  readonly #events: ListeningEvents;
  readonly #clock: Clock;
  /** Channels on which LISTEN is in force, and no UNLISTEN has been sent. */
  readonly #inForce = new Set<string>();
  /** Channels of which it has to be seen whether they are wanted. */
  #doubtful = new Set<string>();
  #isBusy = false;
  #isOver = false;
  #keepalive: Timer | undefined;
  #deadline: Timer | undefined;
  /** When the server was last heard, on the clock. */
  #heardAt: number;
  /** Why the connection ends, if it has said so. */
  #fault: Error | undefined;

  constructor(client: ListeningClient, limits: ListeningLimits, events: ListeningEvents, clock: Clock) {
    this.#client = client;
    this.#limits = limits;
    this.#events = events;
    this.#clock = clock;
    this.#heardAt = clock.now();
    client.on('notification', this.#onNotification);
    client.on('error', this.#onError);
    client.on('end', this.#onEnd);
    this.#rest();
  }

  /** LISTEN is in force on this channel. */
  has(channel: string): boolean {
    return this.#inForce.has(channel);
  }

  /** Somebody has come to a channel, or the last one has left it. */
  review(channel: string): void {
    this.#doubtful.add(channel);
    if (this.#isBusy || this.#isOver) return;
    this.#isBusy = true;
    // What else happens in this tick goes into the same command.
    queueMicrotask(() => void this.#reconcile());
  }

  /** Keeps the process alive, or does not. */
  hold(isHeld: boolean): void {
    if (isHeld) this.#client.ref();
    else this.#client.unref();
  }

  /** Resolves when the socket is closed. */
  close(): Promise<void> {
    this.#leave();
    return this.#client.close();
  }

  async #reconcile(): Promise<void> {
    if (this.#client.isClosed) this.#onEnd();
    while (!this.#isOver && this.#doubtful.size > 0) {
      const doubtful = [...this.#doubtful];
      this.#doubtful.clear();
      const added = doubtful.filter((channel) => this.#events.isWanted(channel) && !this.has(channel));
      const dropped = doubtful.filter((channel) => !this.#events.isWanted(channel) && this.has(channel));
      // From here on nobody may be told that they are in force.
      for (const channel of dropped) this.#inForce.delete(channel);
      if (added.length + dropped.length > 0) await this.#command(added, dropped);
    }
    this.#isBusy = false;
    this.#rest();
  }

  async #command(added: readonly string[], dropped: readonly string[]): Promise<void> {
    const commands = [
      ...dropped.map((channel) => `UNLISTEN ${quoteChannel(channel)}`),
      ...added.map((channel) => `LISTEN ${quoteChannel(channel)}`),
    ];
    try {
      await this.#ask(commands.join('; '), this.#limits.listenTimeoutMillis);
    } catch (error) {
      // One of them is not in force, and so none is: they were one transaction.
      if (isRefusal(error)) this.#events.refused(added, error);
      else this.#lose(error as Error);
      return;
    }
    for (const channel of added) {
      // A subscriber who was told may have closed everything.
      if (this.#isOver) return;
      this.#inForce.add(channel);
      this.#events.established(channel);
    }
  }

  /** Runs one command; the session is lost where its answer does not come in time. */
  async #ask(text: string, withinMillis: number): Promise<void> {
    const late = (): void =>
      this.#lose(
        new PgModuleError('PG_CONNECTION_LOST', `the server has not answered within ${formatMillis(withinMillis)}`),
      );
    // In two halves: where this process itself was too busy to look, the second one lets it read what has arrived.
    this.#deadline = this.#clock.setTimeout(() => {
      this.#deadline = this.#clock.setTimeout(late, withinMillis / 2);
    }, withinMillis / 2);
    try {
      // `simple` is pg's: several commands in one text, and nothing is prepared.
      await this.#client.query({ text, queryMode: 'simple' } as { text: string });
      this.#heardAt = this.#clock.now();
    } finally {
      this.#clock.clearTimeout(this.#deadline);
    }
  }

  /** Nothing is under way: until the server has been silent for too long. */
  #rest(): void {
    this.#clock.clearTimeout(this.#keepalive);
    if (this.#isOver) return;
    const silentMillis = this.#clock.now() - this.#heardAt;
    const left = Math.max(1, this.#limits.keepaliveMillis - silentMillis);
    this.#keepalive = this.#clock.setTimeout(() => void this.#prove(), left, 'background');
  }

  async #prove(): Promise<void> {
    const silentMillis = this.#clock.now() - this.#heardAt;
    if (!this.#isBusy && silentMillis >= this.#limits.keepaliveMillis) {
      this.#isBusy = true;
      try {
        await this.#ask('SELECT 1', this.#limits.keepaliveTimeoutMillis);
      } catch (error) {
        this.#lose(error as Error);
      }
      // Somebody may have come or gone meanwhile.
      await this.#reconcile();
    } else this.#rest();
  }

  readonly #onNotification = ({ channel, payload = '', processId }: NotificationMessage): void => {
    this.#heardAt = this.#clock.now();
    // Of a channel that was left, or whose LISTEN is not known to be in force yet. Whoever reads after `listening` sees
    // what was committed before it.
    if (!this.#inForce.has(channel)) return;
    this.#events.notified({ kind: 'notification', channel, payload, pid: processId });
  };

  readonly #onError = (error: Error): void => {
    this.#fault ??= error;
  };

  readonly #onEnd = (): void => {
    this.#lose(this.#fault ?? new PgModuleError('PG_CONNECTION_LOST', 'the server has closed it'));
  };

  #lose(error: Error): void {
    if (this.#isOver) return;
    this.#leave();
    this.#client.destroy();
    this.#events.lost(this.#fault ?? error);
  }

  #leave(): void {
    this.#isOver = true;
    this.#inForce.clear();
    this.#clock.clearTimeout(this.#keepalive);
    this.#clock.clearTimeout(this.#deadline);
    this.#client.off('notification', this.#onNotification);
    this.#client.off('error', this.#onError);
    this.#client.off('end', this.#onEnd);
  }
}

/** The server understands, and will say the same the next time. */
function isRefusal(error: unknown): error is Error {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && (isPermanentRefusal(code) || code === NOT_SUPPORTED);
}
