import { PgModuleError } from '../errors/pg-module.error.js';
import { backoffMillis } from '../util/backoff.js';
import type { CallSite } from '../util/call-site.js';
import type { Clock, Timer } from '../util/clock.js';
import { Deadline } from '../util/deadline.js';
import { deferred, type Deferred } from '../util/deferred.js';
import { formatMillis } from '../util/duration.js';
import { dialsToStart, nextBurst } from './growth.js';
import type { ResolvedPoolOptions } from './pool-options.js';
import type { PooledClient } from './pooled-client.js';
import { PooledConnection } from './pooled-connection.js';
import { WaitQueue } from './wait-queue.js';

type Idle<C extends PooledClient> = PooledConnection<C, 'idle'>;
export type Leased<C extends PooledClient> = PooledConnection<C, 'leased'>;
type Resetting<C extends PooledClient> = PooledConnection<C, 'resetting'>;

/** Why a connection is closed. */
export type RetireCause =
  | 'idle' // idleTimeoutMillis
  | 'lifetime' // maxLifetimeSeconds
  | 'uses' // maxUses
  | 'lost' // the session ended by itself
  | 'busy' // released while a statement was running
  | 'reset' // could not be brought back to a clean state
  | 'asked' // release(true), release(error)
  | 'drain'; // the pool closes

/** What the engine tells, as it happens. A handler must not throw. */
export interface EngineEvents<C extends PooledClient> {
  opened(client: C): void;
  lent(client: C): void;
  released(client: C, error: Error | undefined): void;
  closed(client: C, cause: RetireCause): void;
  /** A connection that nobody was using is gone. */
  lost(client: C, error: Error): void;
  /** `retryInMillis` undefined = nobody needs a connection, or trying again is of no use to those who wait. */
  dialFailed(error: Error, failures: number, retryInMillis: number | undefined): void;
  warning(message: string): void;
}

/** One who still has a connection. */
export interface Holder {
  readonly heldMillis: number;
  readonly callSite: CallSite | undefined;
}

export interface DrainReport {
  /** Who had not given back by the deadline and was cut off, longest first. */
  readonly holders: readonly Holder[];
}

export interface EngineOptions<C extends PooledClient> {
  readonly name: string;
  readonly limits: ResolvedPoolOptions;
  /** Opens a connection; must stop and clean up when the signal fires. */
  readonly connect: (signal: AbortSignal) => Promise<C>;
  /** Trying again with the same settings cannot help. */
  readonly isPermanent: (error: Error) => boolean;
  readonly events: EngineEvents<C>;
  readonly clock: Clock;
}

/** Between dials that fail. While somebody waits, the server's return must not stay unnoticed for long. */
const BACKOFF = { baseMillis: 100, maxMillis: 1_000 };
const BACKGROUND_BACKOFF = { baseMillis: 100, maxMillis: 5_000 };
/** For a ROLLBACK, and for the ReadyForQuery behind an error. */
const RESET_MILLIS = 5_000;
/** For CancelRequests at the end of a drain, and for what they cancel to be told of it. */
const CANCEL_MILLIS = 1_000;

/**
 * The pool's rules, on any {@link PooledClient}.
 *
 * Invariants: established + dialling <= max. A connection stands in at most one of #idle and #leased, or is resetting.
 * While somebody waits, no connection rests. Borrowers are served in the order in which they came, by whichever
 * connection is free first.
 */
export class PoolEngine<C extends PooledClient> {
  readonly #name: string;
  readonly #limits: ResolvedPoolOptions;
  readonly #connect: (signal: AbortSignal) => Promise<C>;
  readonly #isPermanent: (error: Error) => boolean;
  readonly #events: EngineEvents<C>;
  readonly #clock: Clock;

  /** A stack: the warmest on top, so that the rest may retire. */
  readonly #idle: Idle<C>[] = [];
  readonly #leased = new Set<Leased<C>>();
  readonly #resetting = new Set<Resetting<C>>();
  readonly #waiters: WaitQueue<Leased<C>>;
  readonly #goodbyes = new Set<Promise<void>>();

  readonly #dials = new Set<Deadline>();
  #burst = 1;
  #failures = 0;
  #lastFailure: Error | undefined;
  #retryTimer: Timer | undefined;

  /** Connections to keep: 0 until the pool is first used or opened. */
  #floor = 0;
  #opening: Deferred<void> | undefined;
  #idleTimer: Timer | undefined;
  #draining: Promise<DrainReport> | undefined;
  #emptied: Deferred<void> | undefined;

  constructor({ name, limits, connect, isPermanent, events, clock }: EngineOptions<C>) {
    this.#name = name;
    this.#limits = limits;
    this.#connect = connect;
    this.#isPermanent = isPermanent;
    this.#events = events;
    this.#clock = clock;
    this.#waiters = new WaitQueue(limits.acquireTimeoutMillis, (waited) => this.#acquireTimeout(waited), clock);
  }

  get total(): number {
    return this.#established + this.#dials.size;
  }

  get idle(): number {
    return this.#idle.length;
  }

  get waiting(): number {
    return this.#waiters.length;
  }

  get isDraining(): boolean {
    return this.#draining !== undefined;
  }

  /** Past the end: nothing is open any more. */
  get isEmpty(): boolean {
    return this.total === 0 && this.#goodbyes.size === 0;
  }

  get #established(): number {
    return this.#idle.length + this.#leased.size + this.#resetting.size;
  }

  /**
   * Opens `max(1, min)` connections, trying again with backoff for as long as it may help. Rejects with the failure
   * that made it useless. Concurrent calls share one opening.
   */
  open(): Promise<void> {
    if (this.#draining) return Promise.reject(this.#closedError());
    if (this.#opening) return this.#opening.promise;
    this.#floor = Math.max(1, this.#limits.min);
    const opening = (this.#opening = deferred<void>());
    this.#settleOpening();
    this.#grow();
    return opening.promise;
  }

  /** Gives up an {@link open} that is under way; the connections it has opened stay. */
  abandonOpening(error: Error): void {
    this.#opening?.reject(error);
    this.#opening = undefined;
    this.#floor = Math.min(this.#floor, this.#limits.min);
  }

  /** {@link open} that nobody waits for; once it has succeeded or become useless, `min` connections are kept. */
  openInBackground(): void {
    if (this.#draining) return;
    this.#floor = Math.max(1, this.#limits.min);
    this.#settleOpening();
    this.#grow();
  }

  /** A connection at once, if one rests and nobody waits for it. */
  tryAcquire(callSite: CallSite | undefined): Leased<C> | undefined {
    if (this.#draining) return undefined;
    for (let connection = this.#idle.pop(); connection; connection = this.#idle.pop()) {
      const cause = this.#unfit(connection);
      if (cause === undefined) return this.#lend(connection, callSite);
      this.#close(connection, cause);
    }
    return undefined;
  }

  /** @throws PgModuleError `PG_POOL_CLOSED`, `PG_QUEUE_FULL`, `PG_ACQUIRE_TIMEOUT`; PgConnectError if it is permanent */
  acquire(callSite: CallSite | undefined): Promise<Leased<C>> {
    if (this.#draining) return Promise.reject(this.#closedError());
    const connection = this.tryAcquire(callSite);
    if (connection) return Promise.resolve(connection);
    if (this.#waiters.length >= this.#limits.maxWaiting) return Promise.reject(this.#queueFull());
    if (this.#floor < this.#limits.min) this.#floor = this.#limits.min;
    if (this.#waiters.length === 0) this.#stopRetrying();
    return new Promise((resolve, reject) => {
      const served = (leased: Leased<C>): void => {
        leased.callSite = callSite;
        resolve(leased);
      };
      this.#waiters.push(served, reject);
      this.#grow();
    });
  }

  /** Takes a lease back. `retire` closes the connection whatever its state. */
  release(connection: Leased<C>, retire: boolean, error?: Error): void {
    this.#leased.delete(connection);
    const { client } = connection;
    this.#events.released(client, error);
    if (client.isClosed) this.#close(connection, 'lost');
    else if (retire) this.#close(connection, 'asked');
    else if (client.isReady && client.getTransactionStatus() === 'I') this.#recycled(connection);
    else void this.#reset(connection);
  }

  /**
   * Ends the pool: refuses new work, rejects waiters, closes what rests, waits for leases to come back, and at the
   * deadline cancels running statements and closes their connections. Resolves when every socket is closed. Further
   * calls share the first one's end.
   */
  drain(deadlineMillis: number): Promise<DrainReport> {
    return (this.#draining ??= this.#drain(deadlineMillis));
  }

  async #drain(deadlineMillis: number): Promise<DrainReport> {
    // The caller's assignment to #draining comes first: what follows may call back into the pool.
    await Promise.resolve();
    const closed = this.#closedError();
    this.#stopRetrying();
    this.#clock.clearTimeout(this.#idleTimer);
    this.#opening?.reject(closed);
    this.#opening = undefined;
    this.#waiters.rejectAll(closed);
    for (const dial of this.#dials) dial.abort(closed);
    for (const connection of this.#idle.splice(0)) this.#close(connection, 'drain');
    const holders = await this.#untilReturned(deadlineMillis);
    while (this.#goodbyes.size > 0) await Promise.all(this.#goodbyes);
    return { holders };
  }

  async #untilReturned(deadlineMillis: number): Promise<Holder[]> {
    if (this.total === 0) return [];
    const emptied = (this.#emptied = deferred<void>());
    const timer = this.#clock.setTimeout(() => emptied.resolve(), Math.max(1, deadlineMillis));
    await emptied.promise;
    this.#clock.clearTimeout(timer);
    this.#emptied = undefined;
    const left = [...this.#leased];
    const holders = this.#holders();
    await Promise.all(left.map((connection) => this.#cutOff(connection)));
    for (const connection of [...this.#resetting]) this.#close(connection, 'drain');
    return holders;
  }

  /** Cancels what the connection is doing, so that its borrower hears of it from the server, and closes it. */
  async #cutOff(connection: Leased<C>): Promise<void> {
    const { client } = connection;
    if (!client.isReady && !client.isClosed) {
      const expired = (): Error => new Error('cancelled too late');
      const deadline = new Deadline(CANCEL_MILLIS, expired, this.#clock);
      const ready = this.#untilReady(client, deadline.signal);
      await client.cancelRunning(deadline.signal).catch(() => deadline.abort(new Error('not cancelled')));
      await ready;
      deadline.clear();
    }
    // The borrower may have released it while its statement was being cancelled.
    if (this.#leased.delete(connection)) this.#close(connection, 'drain');
  }

  #lend(connection: Idle<C>, callSite: CallSite | undefined): Leased<C> {
    const leased = connection.lend(callSite, this.#clock.now());
    this.#leased.add(leased);
    leased.client.ref();
    this.#events.lent(leased.client);
    return leased;
  }

  /** Clean again: the next in the queue gets it, or it rests. */
  #recycled(connection: Leased<C> | Resetting<C>): void {
    const cause = this.#draining ? 'drain' : this.#unfit(connection);
    if (cause !== undefined) {
      this.#close(connection, cause);
      return;
    }
    const resting = connection.rest(this.#clock.now());
    const waiter = this.#waiters.shift();
    if (waiter) waiter.resolve(this.#lend(resting, undefined));
    else this.#rest(resting);
  }

  #rest(connection: Idle<C>): void {
    connection.client.unref();
    this.#idle.push(connection);
    this.#armIdleTimer();
    this.#settleOpening();
  }

  #unfit(connection: PooledConnection<C>): RetireCause | undefined {
    if (connection.client.isClosed) return 'lost';
    if (this.#limits.maxUses > 0 && connection.uses >= this.#limits.maxUses) return 'uses';
    if (this.#clock.now() >= connection.expiresAt) return 'lifetime';
    return undefined;
  }

  /** Brings a connection back to a clean session, or closes it. Nobody waits for it meanwhile, but it takes up room. */
  async #reset(leased: Leased<C>): Promise<void> {
    const connection = leased.reset(this.#clock.now());
    this.#resetting.add(connection);
    const { client, callSite } = connection;
    const expired = (): Error => new Error(`no answer within ${formatMillis(RESET_MILLIS)}`);
    const deadline = new Deadline(RESET_MILLIS, expired, this.#clock);
    try {
      // A statement that pg itself refuses leaves the client busy until its callback, which we may be in, has returned.
      await Promise.resolve();
      const busy = !client.isReady && !client.isSettling && !client.isClosed;
      if (busy) {
        if (this.#resetting.has(connection)) this.#closeBusy(connection);
        return;
      }
      if (!client.isReady) await this.#untilReady(client, deadline.signal);
      if (client.isReady && client.getTransactionStatus() !== 'I') {
        if (callSite) {
          this.#events.warning(
            `${this.#title}: a connection taken at ${callSite.toString()} was released inside an open transaction, ` +
              'which was rolled back. End every transaction before releasing.',
          );
        }
        client.query('ROLLBACK').catch(() => undefined);
        await this.#untilReady(client, deadline.signal);
      }
    } finally {
      deadline.clear();
    }
    // A drain may have closed it meanwhile.
    if (!this.#resetting.delete(connection)) return;
    if (client.isReady && client.getTransactionStatus() === 'I') this.#recycled(connection);
    else this.#close(connection, client.isClosed ? 'lost' : 'reset');
  }

  #closeBusy(connection: Resetting<C>): void {
    const { callSite } = connection;
    // A pool.query() ends this way only by query_timeout, and its caller has been told.
    if (callSite) {
      this.#events.warning(
        `${this.#title}: a connection taken at ${callSite.toString()} was released while a statement was still running, ` +
          'so the statement was cancelled and the connection closed. Await every query before releasing.',
      );
    }
    this.#close(connection, 'busy');
  }

  /** Resolves when the client is ready or closed, or the signal fires: look which. */
  #untilReady(client: C, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        client.off('drain', done);
        client.off('end', done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      if (client.isClosed || signal.aborted) {
        resolve();
        return;
      }
      client.once('drain', done);
      client.once('end', done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  #close(connection: Idle<C> | Leased<C> | Resetting<C>, cause: RetireCause): void {
    if (connection.is('leased')) this.#leased.delete(connection);
    if (connection.is('resetting')) this.#resetting.delete(connection);
    const { client } = connection;
    connection.close(this.#clock.now());
    client.ref();
    const goodbye = (cause === 'busy' || cause === 'reset' ? this.#abort(client) : client.close()).then(() => {
      this.#goodbyes.delete(goodbye);
      this.#events.closed(client, cause);
    });
    this.#goodbyes.add(goodbye);
    if (this.total === 0) this.#emptied?.resolve();
    this.#grow();
  }

  /** Cuts a connection off in the midst of something, and has the server stop what nobody waits for any more. */
  async #abort(client: C): Promise<void> {
    client.destroy();
    const deadline = new Deadline(CANCEL_MILLIS, () => new Error('cancelled too late'), this.#clock);
    await client.cancelRunning(deadline.signal).catch(() => undefined);
    deadline.clear();
    await client.close();
  }

  #grow(): void {
    if (this.#draining || this.#retryTimer !== undefined) return;
    const count = dialsToStart({
      waiting: this.#waiters.length,
      established: this.#established,
      dialling: this.#dials.size,
      floor: this.#floor,
      max: this.#limits.max,
      failing: this.#failures > 0,
      burst: this.#burst,
    });
    for (let started = 0; started < count; started++) void this.#dial();
  }

  async #dial(): Promise<void> {
    const dial = new Deadline(0, () => new Error('unreachable'), this.#clock);
    this.#dials.add(dial);
    let client: C;
    try {
      client = await this.#connect(dial.signal);
    } catch (error) {
      this.#dials.delete(dial);
      if (this.#draining) {
        if (this.total === 0) this.#emptied?.resolve();
      } else {
        this.#dialFailed(error instanceof Error ? error : new Error(String(error)));
      }
      return;
    }
    this.#dials.delete(dial);
    this.#dialled(client);
  }

  #dialled(client: C): void {
    this.#failures = 0;
    this.#lastFailure = undefined;
    const now = this.#clock.now();
    const { maxLifetimeSeconds } = this.#limits;
    // Up to a tenth earlier, so that connections opened together do not retire together.
    const lifetime = maxLifetimeSeconds * 1000 * (1 - this.#clock.random() / 10);
    const connection = PooledConnection.opened(client, maxLifetimeSeconds > 0 ? now + lifetime : Infinity, now);
    client.on('error', (error) => this.#onLost(connection, error));
    client.once('end', () => this.#onLost(connection, undefined));
    this.#events.opened(client);
    if (this.#draining) {
      this.#close(connection, 'drain');
      return;
    }
    const waiter = this.#waiters.shift();
    if (waiter) waiter.resolve(this.#lend(connection, undefined));
    else this.#rest(connection);
    this.#burst = nextBurst(this.#burst, this.#waiters.length);
    this.#settleOpening();
    this.#grow();
  }

  #dialFailed(error: Error): void {
    this.#burst = 1;
    this.#lastFailure = error;
    // Dials that were started together fail together: they count as one attempt.
    if (this.#retryTimer !== undefined) return;
    this.#failures++;
    const permanent = this.#isPermanent(error);
    if (permanent) {
      this.abandonOpening(error);
      // Those who wait can still be served by what is open; with nothing open, waiting is of no use.
      if (this.#established === 0) this.#waiters.rejectAll(error);
    }
    const needed = this.#waiters.length > 0 || this.#established < this.#floor;
    if (!needed) {
      this.#events.dialFailed(error, this.#failures, undefined);
      return;
    }
    const background = this.#waiters.length === 0 && !this.#opening ? 'background' : undefined;
    const backoff = background ? BACKGROUND_BACKOFF : BACKOFF;
    const delay = permanent ? backoff.maxMillis : backoffMillis(this.#failures, backoff, this.#clock);
    const retry = (): void => {
      this.#retryTimer = undefined;
      this.#grow();
    };
    this.#retryTimer = this.#clock.setTimeout(retry, delay, background);
    this.#events.dialFailed(error, this.#failures, delay);
  }

  /** Somebody new needs a connection: ask the server now. */
  #stopRetrying(): void {
    this.#clock.clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
  }

  /** A socket's end, seen from the socket. What is lent is seen to when it comes back. */
  #onLost(connection: PooledConnection<C>, error: Error | undefined): void {
    if (!connection.is('idle')) return;
    const index = this.#idle.indexOf(connection);
    if (index === -1) return;
    this.#idle.splice(index, 1);
    this.#close(connection, 'lost');
    this.#events.lost(
      connection.client,
      error ?? new PgModuleError('PG_CONNECTION_LOST', 'The server closed an idle connection.'),
    );
  }

  #settleOpening(): void {
    if (this.#established < this.#floor) return;
    this.#opening?.resolve();
    this.#opening = undefined;
    this.#floor = Math.min(this.#floor, this.#limits.min);
  }

  /** One timer, for the connection that has rested longest: they retire one by one. */
  #armIdleTimer(): void {
    const { idleTimeoutMillis } = this.#limits;
    const oldest = this.#idle[0];
    if (idleTimeoutMillis === 0 || this.#idleTimer !== undefined || !oldest || this.#draining) return;
    const left = oldest.since + idleTimeoutMillis - this.#clock.now();
    const retire = (): void => {
      this.#idleTimer = undefined;
      this.#retireIdle();
      this.#armIdleTimer();
    };
    this.#idleTimer = this.#clock.setTimeout(retire, Math.max(1, Math.ceil(left)), 'background');
  }

  #retireIdle(): void {
    const now = this.#clock.now();
    for (let oldest = this.#idle[0]; oldest; oldest = this.#idle[0]) {
      if (now - oldest.since < this.#limits.idleTimeoutMillis) return;
      this.#idle.shift();
      if (this.#established >= this.#floor) this.#close(oldest, 'idle');
      else {
        // Kept for `min`: its idleness is counted anew.
        oldest.since = now;
        this.#idle.push(oldest);
      }
    }
  }

  #holders(): Holder[] {
    const now = this.#clock.now();
    return [...this.#leased]
      .map(({ since, callSite }) => ({ heldMillis: now - since, callSite }))
      .sort((one, other) => other.heldMillis - one.heldMillis);
  }

  get #title(): string {
    return `Pool "${this.#name}"`;
  }

  #closedError(): PgModuleError {
    return new PgModuleError(
      'PG_POOL_CLOSED',
      `${this.#title} is closed: no connection can be taken from it any more.`,
    );
  }

  #queueFull(): PgModuleError {
    const { maxWaiting, max } = this.#limits;
    return new PgModuleError(
      'PG_QUEUE_FULL',
      `${this.#title}: ${this.#waiters.length} borrowers already wait for its ${max} connections, and pool.maxWaiting is ` +
        `${maxWaiting}. ${this.#describeHolders()}`,
    );
  }

  #acquireTimeout(waited: number): PgModuleError {
    const head = `${this.#title}: no connection within ${formatMillis(waited)} (pool.acquireTimeoutMillis)`;
    if (this.#lastFailure && this.#established === 0) {
      return new PgModuleError(
        'PG_ACQUIRE_TIMEOUT',
        `${head}, since none can be opened: ${this.#failures} attempts in a row have failed. The last one: ` +
          this.#lastFailure.message,
        { cause: this.#lastFailure },
      );
    }
    const { max } = this.#limits;
    return new PgModuleError(
      'PG_ACQUIRE_TIMEOUT',
      `${head}: ${this.#leased.size} of ${max} are lent, ${this.#dials.size} are being opened, ` +
        `${this.#waiters.length} more borrowers wait. ${this.#describeHolders()}`,
      this.#lastFailure ? { cause: this.#lastFailure } : undefined,
    );
  }

  #describeHolders(): string {
    const longest = this.#holders()
      .slice(0, 3)
      .map(({ heldMillis, callSite }) => `${formatMillis(heldMillis)} by ${callSite?.toString() ?? 'a pool.query()'}`);
    if (longest.length === 0) return 'Raise pool.max, or ask for less at once.';
    return `Held longest: ${longest.join('; ')}. Release sooner, or raise pool.max.`;
  }
}
