import { PgModuleError } from '../errors/pg-module.error.js';
import { Bag } from '../util/bag.js';
import type { CallSite } from '../util/call-site.js';
import type { Clock } from '../util/clock.js';
import { AbortableWaiter, Borrower } from './borrower.js';
import { DrainDeadline } from './drain-deadline.js';
import { Dialler, type DialFailure, type Need } from './dialler.js';
import { Goodbyes } from './goodbyes.js';
import { IdleStack } from './idle-stack.js';
import { LeakDetector } from './leak-detector.js';
import { Opening } from './opening.js';
import { acquireAborted, acquireTimeout, poolClosed, queueFull, type Holder, type PoolState } from './pool-errors.js';
import { newCounters, type PoolStats } from './pool-stats.js';
import type { ResolvedPoolOptions } from './pool-options.js';
import type { PooledClient } from './pooled-client.js';
import { PooledConnection, type Leased, type RetireCause } from './pooled-connection.js';
import { cancelPolitely, isClean, recycle } from './recycle.js';
import { SharedConnections } from './shared-connections.js';
import { Validation } from './validation.js';
import { WaitQueue, type Waiter } from './wait-queue.js';

type Idle<C extends PooledClient> = PooledConnection<C, 'idle'>;
type Resetting<C extends PooledClient> = PooledConnection<C, 'resetting'>;
type Validating<C extends PooledClient> = PooledConnection<C, 'validating'>;

/** What the engine tells, as it happens. A handler must not throw. */
export interface EngineEvents<C extends PooledClient> {
  opened(client: C, millis: number): void;
  lent(client: C, waitedMillis: number): void;
  released(client: C, error: Error | undefined): void;
  closed(client: C, cause: RetireCause): void;
  /** A connection that nobody was using is gone. */
  lost(client: C, error: Error): void;
  dialFailed(failure: DialFailure): void;
  warning(message: string): void;
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

/**
 * The pool's rules, on any {@link PooledClient}.
 *
 * Invariants: established + dialling <= max. A connection stands in exactly one of #idle, #leased, #resetting and
 * #validation until it is closed. While somebody waits, no connection rests. Borrowers are served in the order in which they came, by
 * whichever connection is free first.
 */
export class PoolEngine<C extends PooledClient> {
  readonly #name: string;
  #limits: ResolvedPoolOptions;
  readonly #events: EngineEvents<C>;
  readonly #clock: Clock;

  readonly #idle: IdleStack<C>;
  readonly #leased = new Bag<Leased<C>>();
  readonly #resetting = new Bag<Resetting<C>>();
  readonly #shared = new SharedConnections<C>();
  readonly #validation: Validation<C>;
  readonly #waiters: WaitQueue<Leased<C>>;
  readonly #dialler: Dialler<C>;
  readonly #leaks: LeakDetector;
  readonly #counters = newCounters();
  readonly #goodbyes: Goodbyes<C>;
  readonly #opening = new Opening();

  #suspended = false;
  #draining: Promise<DrainReport> | undefined;
  #drainDeadline: DrainDeadline | undefined;

  constructor({ name, limits, connect, isPermanent, events, clock }: EngineOptions<C>) {
    this.#name = name;
    this.#limits = limits;
    this.#events = events;
    this.#clock = clock;
    this.#idle = new IdleStack(limits.idleTimeoutMillis, (connection) => this.#retireIdle(connection), clock);
    this.#validation = new Validation({
      limits,
      idle: this.#idle,
      clock,
      isNeeded: () => this.#draining === undefined && this.#established() > 0,
      answered: (connection, isAlive) => this.#onValidated(connection, isAlive),
    });
    this.#waiters = new WaitQueue(
      limits.acquireTimeoutMillis,
      (waited) => {
        this.#counters.timeouts++;
        return acquireTimeout(this.#state(), waited);
      },
      clock,
    );
    this.#dialler = new Dialler({
      connect,
      isPermanent,
      clock,
      opened: (client, millis) => this.#onOpened(client, millis),
      failed: (error, permanent) => this.#onDialFailed(error, permanent),
      told: (failure) => events.dialFailed(failure),
      retry: () => this.#grow(),
    });
    this.#goodbyes = new Goodbyes(clock, (client, cause) => events.closed(client, cause));
    this.#leaks = new LeakDetector(limits.leakThresholdMillis, this.#leased, clock, (what, isNew) => {
      if (isNew) this.#counters.leaks++;
      events.warning(`Pool "${name}": ${what}`);
    });
  }

  /** Connections open or being opened. */
  get total(): number {
    return this.#established() + this.#dialler.count;
  }

  get idle(): number {
    return this.#idle.length;
  }

  get waiting(): number {
    return this.#waiters.length;
  }

  stats(): PoolStats {
    const { min, max } = this.#limits;
    return Object.freeze({
      ...this.#counters,
      retired: Object.freeze({ ...this.#counters.retired }),
      name: this.#name,
      min,
      max,
      idle: this.#idle.length,
      leased: this.#leased.size,
      resetting: this.#resetting.size,
      validating: this.#validation.size,
      dialling: this.#dialler.count,
      total: this.total,
      waiting: this.#waiters.length,
      suspended: this.#suspended,
      draining: this.#draining !== undefined,
    });
  }

  /** Connections to keep. */
  #floor(): number {
    return this.#opening.floor(this.#limits.min);
  }

  #established(): number {
    return this.#idle.length + this.#leased.size + this.#resetting.size + this.#validation.size;
  }

  /**
   * Opens `max(1, min)` connections, trying again with backoff for as long as it may help. Rejects with the failure
   * that made it useless. Concurrent calls share one opening.
   */
  open(): Promise<void> {
    if (this.#draining) return Promise.reject(poolClosed(this.#name));
    const { over } = this.#opening;
    this.openInBackground();
    return over;
  }

  /** Gives up an {@link open} that is under way; the connections it has opened stay. */
  abandonOpening(error: Error): void {
    this.#opening.fail(error);
  }

  /** {@link open} that nobody waits for; once it has succeeded or become useless, `min` connections are kept. */
  openInBackground(): void {
    if (this.#draining) return;
    this.#opening.begin();
    this.#settleOpening();
    this.#grow();
  }

  /** A connection at once, if one rests. */
  tryAcquire(callSite: CallSite | undefined): Leased<C> | undefined {
    if (this.#suspended) return undefined;
    const now = this.#clock.now();
    const connection = this.#takeFresh(now);
    return connection && this.#lend(connection, callSite, now, now);
  }

  /** The one used last of those that rest and need not be validated first. Closes what it finds unfit. */
  #takeFresh(now: number): Idle<C> | undefined {
    const { validateAfterIdleMillis } = this.#limits;
    const staleSince = validateAfterIdleMillis > 0 ? now - validateAfterIdleMillis : -Infinity;
    let connection = this.#idle.popProven(staleSince);
    for (; connection; connection = this.#idle.popProven(staleSince)) {
      const cause = this.#unwanted(connection, now);
      if (cause === undefined) break;
      this.#close(connection, cause);
    }
    return connection;
  }

  /**
   * @throws PgModuleError `PG_POOL_CLOSED`, `PG_QUEUE_FULL`, `PG_ACQUIRE_TIMEOUT`, `PG_ABORTED`; PgConnectError if it is
   *   permanent
   */
  acquire(callSite: CallSite | undefined, signal?: AbortSignal): Promise<Leased<C>> {
    const connection = signal?.aborted ? undefined : this.tryAcquire(callSite);
    if (connection) return Promise.resolve(connection);
    return new Promise((resolve, reject) => {
      this.enqueue(new Borrower(callSite, (leased) => leased, resolve, reject), signal);
    });
  }

  /** {@link PoolEngine.acquire} for one who has tried already: `waiter` is served or refused, but not before this returns. */
  enqueue(waiter: Waiter<Leased<C>>, signal?: AbortSignal): void {
    const refusal = this.#refusal(signal);
    if (refusal) {
      process.nextTick(() => waiter.refuse(refusal));
      return;
    }
    this.#opening.use();
    if (this.#waiters.length === 0) this.#dialler.endBackoff();
    this.#waiters.push(signal ? this.#abortable(waiter, signal) : waiter);
    this.#validateForWaiters();
    this.#grow();
  }

  /** Why one more cannot wait. */
  #refusal(signal: AbortSignal | undefined): PgModuleError | undefined {
    if (this.#draining) return poolClosed(this.#name);
    if (signal?.aborted) return this.#aborted(signal);
    const { maxWaiting, max } = this.#limits;
    // Who waits for a connection that can still be opened is not in anybody's way.
    const room = Math.max(0, max - this.#leased.size);
    if (this.#waiters.length - room < maxWaiting) return undefined;
    this.#counters.queueFull++;
    return queueFull(this.#state(), maxWaiting);
  }

  #abortable(waiter: Waiter<Leased<C>>, signal: AbortSignal): Waiter<Leased<C>> {
    return new AbortableWaiter(waiter, signal, (gaveUp) => {
      this.#waiters.remove(gaveUp);
      return this.#aborted(signal);
    });
  }

  /**
   * A connection that works on fast statements of pool.query() and has room for one that takes the server `millis`. Only
   * while nobody waits: who waits for a connection of his own must find one empty.
   *
   * @param wayMillis how long a statement and its answer are under way
   */
  tryJoin(millis: number, wayMillis: number): Leased<C> | undefined {
    if (this.#waiters.length > 0 || this.#suspended || this.#draining) return undefined;
    const connection = this.#shared.find(millis, this.#clock.now() - wayMillis, (candidate) => this.#isFit(candidate));
    if (connection) {
      this.#join(connection, millis);
      this.#grow();
    }
    return connection;
  }

  /** Lets others join the statement that a connection is working on. */
  share(connection: Leased<C>, millis: number): void {
    this.#shared.add(connection, millis);
    this.#fill(connection);
  }

  /** A statement of a shared connection has been answered; the last one gives it back. */
  leave(connection: Leased<C>, millis: number): void {
    if (this.#shared.leave(connection, millis)) this.#fill(connection);
    else this.release(connection, false);
  }

  /** Those who wait at the head of the queue and may join, as many as there is room for. */
  #fill(connection: Leased<C>): void {
    if (this.#suspended || !this.#isFit(connection)) return;
    for (let { head } = this.#waiters; head; { head } = this.#waiters) {
      const { joinMillis, since } = head;
      if (joinMillis === undefined || !this.#shared.hasRoom(connection, joinMillis)) return;
      this.#waiters.shift();
      this.#join(connection, joinMillis);
      this.#countWait(this.#clock.now() - since);
      head.serve(connection);
    }
  }

  /** Whether others may join what travels on it. */
  #isFit(connection: Leased<C>): boolean {
    return (
      connection.is('leased') &&
      !connection.client.isClosed &&
      this.#overdue(connection, this.#clock.now()) === undefined
    );
  }

  #join(connection: Leased<C>, millis: number): void {
    connection.uses++;
    this.#counters.joins++;
    this.#shared.join(connection, millis);
  }

  /** New bounds; what is above `max` is closed when it rests. Already checked. */
  resize(min: number, max: number): void {
    this.#limits = { ...this.#limits, min, max };
    while (this.total > max) {
      const connection = this.#idle.shift();
      if (!connection) break;
      this.#close(connection, 'resized');
    }
    this.#settleOpening();
    this.#grow();
  }

  /** Closes every connection that there is now: what rests at once, what is lent when it comes back. */
  evict(): void {
    for (const connection of [...this.#leased, ...this.#resetting, ...this.#validation]) {
      connection.condemned = 'evicted';
    }
    for (const connection of this.#idle.clear()) this.#close(connection, 'evicted');
  }

  /** Lends nothing until {@link resume}; borrowers wait, under their usual deadline. */
  suspend(): void {
    this.#suspended = true;
  }

  resume(): void {
    this.#suspended = false;
    const now = this.#clock.now();
    while (this.#waiters.length > 0) {
      const connection = this.#takeFresh(now);
      if (!connection) break;
      this.#serve(connection, now);
    }
    this.#validateForWaiters();
    this.#grow();
  }

  /** Takes a lease back. `retire` closes the connection whatever its state. One that has ended by itself is over. */
  release(connection: Leased<C>, retire: boolean, error?: Error): void {
    const { client } = connection;
    this.#events.released(client, error);
    // Its connection was lost, or a drain has taken it away.
    if (!connection.is('leased')) return;
    this.#leaks.returned(connection);
    if (retire) this.#close(connection, 'asked');
    else if (isClean(client) && this.#resetSql() === undefined) {
      this.#leased.delete(connection);
      this.#handOn(connection);
    } else void this.#recycle(connection);
  }

  /**
   * Ends the pool: refuses new work, rejects waiters, closes what rests, waits for leases to come back, and at the
   * deadline cancels running statements and closes their connections. Resolves when every socket is closed. A further
   * call shares the first one's end, and can bring its deadline forward.
   */
  drain(deadlineMillis: number): Promise<DrainReport> {
    this.#drainDeadline ??= new DrainDeadline(this.#clock);
    this.#drainDeadline.notLaterThan(deadlineMillis);
    return (this.#draining ??= this.#drain(this.#drainDeadline));
  }

  async #drain(deadline: DrainDeadline): Promise<DrainReport> {
    // The caller's assignment to #draining comes first: what follows may call back into the pool.
    await Promise.resolve();
    const closed = poolClosed(this.#name);
    this.#opening.fail(closed);
    this.#waiters.rejectAll(closed);
    this.#dialler.stop(closed);
    this.#leaks.stop();
    this.#validation.stop();
    for (const connection of this.#idle.clear()) this.#close(connection, 'drain');
    this.#settleDrain();
    await deadline.over;
    const { holders } = this.#state();
    await Promise.all([...this.#leased].map((connection) => this.#takeAway(connection)));
    for (const connection of [...this.#resetting, ...this.#validation]) this.#close(connection, 'drain');
    await this.#goodbyes.over();
    return { holders };
  }

  /** Cancels what the connection is doing, so that its borrower hears of it from the server, and closes it. */
  async #takeAway(connection: Leased<C>): Promise<void> {
    const { client } = connection;
    if (!client.isReady && !client.isClosed) await cancelPolitely(client, this.#clock);
    // The borrower may have released it while its statement was being cancelled.
    if (this.#leased.has(connection)) this.#close(connection, 'drain');
  }

  /** `since` = when the borrower began to ask. */
  #lend(connection: Idle<C>, callSite: CallSite | undefined, since: number, now: number): Leased<C> {
    const leased = connection.lend(callSite, now);
    this.#leased.add(leased);
    leased.client.ref();
    this.#leaks.watch();
    this.#counters.acquires++;
    this.#events.lent(leased.client, now - since);
    return leased;
  }

  #countWait(waited: number): void {
    this.#counters.waits++;
    this.#counters.waitMillis += waited;
  }

  /** A connection without a transaction goes to the next in the queue, or it rests. */
  #handOn(connection: Leased<C> | Resetting<C>): void {
    const now = this.#clock.now();
    const cause = this.#unwanted(connection, now);
    if (cause !== undefined) {
      this.#close(connection, cause);
      return;
    }
    const { reset } = this.#limits;
    if (reset === 'clean' || reset === 'discard-all') {
      // Not awaited: what the next borrower sends travels behind it.
      this.#counters.resets++;
      connection.client.resetSession(reset);
    }
    this.#serve(connection.rest(now), now);
  }

  #serve(connection: Idle<C>, now: number): void {
    const waiter = this.#suspended ? undefined : this.#waiters.shift();
    if (waiter) {
      this.#countWait(now - waiter.since);
      waiter.serve(this.#lend(connection, undefined, waiter.since, now));
      return;
    }
    if (this.#limits.allowExitOnIdle) connection.client.unref();
    this.#idle.push(connection);
    this.#validation.keepAlive();
  }

  /** As many stale connections as there are borrowers are asked whether they are alive; the others go on resting. */
  #validateForWaiters(): void {
    if (this.#suspended) return;
    const now = this.#clock.now();
    while (this.#validation.size < this.#waiters.length) {
      const connection = this.#idle.pop();
      if (!connection) return;
      const cause = this.#unwanted(connection, now);
      if (cause === undefined) void this.#validation.ask(connection);
      else this.#close(connection, cause);
    }
  }

  #onValidated(connection: Validating<C>, isAlive: boolean): void {
    const now = this.#clock.now();
    const cause = isAlive ? this.#unwanted(connection, now) : 'invalid';
    if (cause === undefined) {
      this.#serve(connection.prove(now), now);
      return;
    }
    this.#close(connection, cause);
    // Its borrower may be served by one that rests below it.
    this.#validateForWaiters();
  }

  /** Own SQL may fail, and is awaited. */
  #resetSql(): string | undefined {
    const { reset } = this.#limits;
    return typeof reset === 'string' ? undefined : reset.sql;
  }

  /** Why a connection that is free can neither rest nor be lent. */
  #unwanted(connection: PooledConnection<C>, now: number): RetireCause | undefined {
    return this.#draining ? 'drain' : this.#unfit(connection, now);
  }

  #unfit(connection: PooledConnection<C>, now: number): RetireCause | undefined {
    if (connection.client.isClosed) return 'lost';
    const cause = this.#overdue(connection, now);
    // It is counted in no set while this is asked.
    return cause === undefined && this.total >= this.#limits.max ? 'resized' : cause;
  }

  /** Why it is to be retired as soon as nobody uses it. */
  #overdue(connection: PooledConnection<C>, now: number): RetireCause | undefined {
    if (connection.client.fault !== undefined) return 'fatal';
    if (connection.condemned !== undefined) return connection.condemned;
    if (this.#limits.maxUses > 0 && connection.uses >= this.#limits.maxUses) return 'uses';
    return now >= connection.expiresAt ? 'lifetime' : undefined;
  }

  /** Nobody waits for what is being recycled, but it takes up room. */
  async #recycle(leased: Leased<C>): Promise<void> {
    this.#leased.delete(leased);
    const connection = leased.reset(this.#clock.now());
    this.#resetting.add(connection);
    // A pool.query() has no call site, and cannot help what its statement leaves behind.
    const warn = (what: string): void => {
      const site = connection.callSite?.toString();
      if (site === undefined) return;
      this.#events.warning(`Pool "${this.#name}": a connection taken at ${site} was released ${what}`);
    };
    const outcome = await recycle(connection.client, this.#resetSql(), this.#clock, {
      rollingBack: () => {
        this.#counters.resets++;
        warn('inside an open transaction, which was rolled back. End every transaction before releasing.');
      },
      resetting: () => this.#counters.resets++,
      resetFailed: (reason) => {
        this.#events.warning(`Pool "${this.#name}": pool.reset failed, so a connection was closed: ${reason}`);
      },
    });
    // A drain may have closed it meanwhile.
    if (!this.#resetting.delete(connection)) return;
    if (outcome === 'clean') {
      this.#handOn(connection);
      return;
    }
    if (outcome === 'busy') {
      warn(
        'while a statement was still running, so the statement was cancelled and the connection closed. ' +
          'Await every query before releasing.',
      );
    }
    this.#close(connection, outcome);
  }

  #close(connection: Idle<C> | Leased<C> | Resetting<C> | Validating<C>, cause: RetireCause): void {
    if (connection.is('leased')) this.#leased.delete(connection);
    if (connection.is('resetting')) this.#resetting.delete(connection);
    if (connection.is('validating')) this.#validation.forget(connection);
    connection.close(this.#clock.now());
    const { retired } = this.#counters;
    retired[cause] = (retired[cause] ?? 0) + 1;
    this.#goodbyes.say(connection.client, cause);
    this.#settleDrain();
    this.#grow();
  }

  #grow(): void {
    const { max } = this.#limits;
    if (this.#draining || this.total >= max) return;
    // Those for whom a connection is being validated or reset are as good as served.
    const coming = this.#validation.size + this.#resetting.size;
    const waiting = this.#suspended ? 0 : this.#waiters.length - coming + this.#shared.excess;
    this.#dialler.pulse({ waiting, established: this.#established(), floor: this.#floor(), max });
  }

  #onOpened(client: C, millis: number): number {
    this.#counters.connects++;
    this.#counters.connectMillis += millis;
    const now = this.#clock.now();
    const { maxLifetimeSeconds, lifetimeJitter } = this.#limits;
    const lifetime = maxLifetimeSeconds * 1000 * (1 - this.#clock.random() * lifetimeJitter);
    const connection = PooledConnection.opened(client, maxLifetimeSeconds > 0 ? now + lifetime : Infinity, now);
    client.on('error', (error) => this.#onLost(connection, error));
    client.once('end', () => this.#onLost(connection, undefined));
    this.#events.opened(client, millis);
    const cause = this.#unwanted(connection, now);
    if (cause === undefined) this.#serve(connection, now);
    else this.#close(connection, cause);
    this.#settleOpening();
    return this.#waiters.length;
  }

  #onDialFailed(error: Error, permanent: boolean): Need {
    this.#counters.connectFailures++;
    if (this.#draining) {
      this.#settleDrain();
      return undefined;
    }
    if (permanent) {
      this.abandonOpening(error);
      // Those who wait can still be served by what is open; with nothing open, waiting is of no use.
      if (this.#established() === 0) this.#waiters.rejectAll(error);
    }
    if ((this.#waiters.length > 0 && !this.#suspended) || this.#opening.isAwaited) return 'borrowers';
    return this.#established() < this.#floor() ? 'floor' : undefined;
  }

  /**
   * A socket's end, seen from the socket. What is being reset or validated is seen to afterwards. A lease ends here: its
   * borrower may never give it back, and holds nothing any more.
   */
  #onLost(connection: PooledConnection<C>, error: Error | undefined): void {
    if (connection.is('leased')) {
      this.#leaks.returned(connection);
      this.#close(connection, 'lost');
    }
    if (!connection.is('idle')) return;
    this.#idle.remove(connection);
    this.#close(connection, 'lost');
    const reason = error ?? new PgModuleError('PG_CONNECTION_LOST', 'The server closed an idle connection.');
    this.#events.lost(connection.client, reason);
  }

  /** Whether a connection that has rested long enough is closed, or kept for `min`. */
  #retireIdle(connection: Idle<C>): boolean {
    if (this.#established() < this.#floor()) return false;
    this.#close(connection, 'idle');
    return true;
  }

  #settleOpening(): void {
    this.#opening.settle(this.#established(), this.#limits.min);
  }

  #settleDrain(): void {
    if (this.#draining && this.total === 0) this.#drainDeadline?.end();
  }

  #aborted(signal: AbortSignal | undefined): PgModuleError {
    this.#counters.aborted++;
    return acquireAborted(this.#name, signal);
  }

  #state(): PoolState {
    const now = this.#clock.now();
    const holders = [...this.#leased]
      .map(({ since, callSite }) => ({ heldMillis: now - since, callSite }))
      .sort((one, other) => other.heldMillis - one.heldMillis);
    return {
      name: this.#name,
      max: this.#limits.max,
      established: this.#established(),
      dialling: this.#dialler.count,
      waiting: this.#waiters.length,
      holders,
      failures: this.#dialler.failures,
      lastFailure: this.#dialler.lastFailure,
    };
  }
}
