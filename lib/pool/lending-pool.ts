import { AsyncResource } from 'node:async_hooks';
import pg from 'pg';
import type { PgClient } from '../client/pg-client.js';
import { plainQuery } from '../client/plain-query.js';
import { StatementCatalog } from '../client/statement-catalog.js';
import { CallSiteBudget, type CallSite } from '../util/call-site.js';
import { Arrival } from '../util/arrival.js';
import type { Clock } from '../util/clock.js';
import type { DialFailure } from './dialler.js';
import { PoolEngine, type DrainReport, type EngineEvents } from './engine.js';
import { channels, type PoolMessages } from './channels.js';
import { Borrower } from './borrower.js';
import type { BorrowedConnection } from './connection-source.js';
import { PgLease, type GiveBack } from './lease.js';
import { resolveBounds, type ResolvedPoolOptions } from './pool-options.js';
import type { PoolStats } from './pool-stats.js';
import { runSubmittable } from './pooled-submittable.js';
import { queryInAnyForm, type QueryRunner } from './query-forms.js';
import type { Leased } from './pooled-connection.js';
import { PooledStatement, type QueryCallback, type StatementPool } from './pooled-statement.js';
import type { UnpooledClient } from './unpooled-client.js';
import { Way } from './way.js';

/** The pool's events and what their listeners get: pg.Pool's, and two more. */
export interface PgPoolEvents {
  connect: [client: PgClient];
  acquire: [client: PgClient];
  release: [error: Error | undefined, client: PgClient];
  remove: [client: PgClient];
  /** An idle connection was lost. The pool replaces it; nothing has to be done. */
  error: [error: Error, client: PgClient];
  /** Somebody uses the pool in a way that costs connections, or that hides a bug. */
  warning: [message: string];
  dialFailed: [failure: DialFailure];
}

export interface PgPoolSettings {
  readonly name: string;
  readonly limits: ResolvedPoolOptions;
  /** What libraries look for on a pg.Pool's `options`. */
  readonly shown: Record<string, unknown>;
  /** What they find as its `Client`: connections like the pool's, outside of it. */
  readonly Client?: new (options?: unknown) => UnpooledClient;
  readonly connect: (signal: AbortSignal) => Promise<PgClient>;
  /** What is known of the texts that its connections run; `undefined` = nothing. */
  readonly statements?: StatementCatalog;
  /** The client gives up on answers, and with them on the connection: statements must not travel together. */
  readonly hasQueryTimeout?: boolean;
  /** Trying again with the same settings cannot help. */
  readonly isPermanent: (error: Error) => boolean;
  readonly clock: Clock;
}

export interface BorrowOptions {
  /** Ends the waiting for a connection; rejects with `PG_ABORTED`. */
  signal?: AbortSignal;
}

export type ConnectCallback = (
  error: Error | undefined,
  client: PgLease | undefined,
  release: (error?: Error | boolean) => void,
) => void;

const noRelease = (): void => undefined;

function tellBorrower(callback: ConnectCallback, client: PgLease): void {
  callback(undefined, client, (error) => client.release(error));
}

/**
 * A pool of connections, and a `pg.Pool`: every library that takes one takes this. The differences are for the better:
 * an error in a query costs no connection, a lease has an end, an open transaction is never handed on, nobody waits
 * for a particular connection, and closing ends.
 */
export class LendingPool extends pg.Pool {
  /** The pool's name in the application; `default` if it has none. */
  readonly name: string;
  /** Connections open or being opened. */
  declare readonly totalCount: number;
  declare readonly idleCount: number;
  /** Borrowers in the queue. */
  declare readonly waitingCount: number;
  /** Always 0: what has expired is closed at once. */
  declare readonly expiredCount: number;
  readonly #engine: PoolEngine<PgClient>;
  readonly #giveBack: GiveBack = (leased, retire, error) => this.#engine.release(leased, retire, error);
  readonly #lease = (leased: Leased<PgClient>): PgLease => new PgLease(leased, this.#giveBack);
  #limits: ResolvedPoolOptions;
  readonly #callSites: CallSiteBudget;
  /** @internal What is known of the texts that its connections run. */
  protected readonly statements: StatementCatalog;
  readonly #statementPool: StatementPool;
  readonly #runner: QueryRunner;
  /** Fast reads may travel together. */
  readonly #mayJoin: boolean;
  readonly #clock: Clock;

  static {
    // pg's types call these properties; they are accessors, there and here.
    const count = (name: string, read: (pool: LendingPool) => number): void => {
      const get = function (this: LendingPool): number {
        return read(this);
      };
      Object.defineProperty(this.prototype, name, { get, configurable: true });
    };
    count('totalCount', (pool) => pool.#engine.total);
    count('idleCount', (pool) => pool.#engine.idle);
    count('waitingCount', (pool) => pool.#engine.waiting);
    count('expiredCount', () => 0);
  }

  /** @internal Use `createPool` or the module. */
  constructor(settings: PgPoolSettings) {
    const { name, limits, shown, Client, connect, isPermanent, clock } = settings;
    const { statements = new StatementCatalog(0, () => undefined), hasQueryTimeout = false } = settings;
    super();
    // Not through pg's constructor: it would read what is to be looked up when it is asked for.
    Object.assign(this, { options: shown, Client });
    this.name = name;
    this.#limits = limits;
    this.statements = statements;
    this.#mayJoin = limits.pipeline === 'auto' && limits.reset === 'rollback' && !hasQueryTimeout;
    this.#callSites = new CallSiteBudget(clock);
    this.#clock = clock;
    this.#engine = new PoolEngine({
      name,
      limits,
      connect,
      isPermanent,
      events: this.#engineEvents(),
      clock,
    });
    this.#runner = {
      run: (config, values, tell) => this.#run(config, values, tell),
      submit: (submittable, args) => {
        const acquiring = this.#engine.acquire(this.#callSites.take());
        runSubmittable(acquiring, (leased) => this.#borrowed(leased), submittable, args);
      },
    };
    this.#statementPool = {
      name,
      engine: this.#engine,
      clock,
      arrival: new Arrival(clock),
      way: new Way(clock),
    };
    // pg.Pool's contract makes an unheard `error` end the process; a lost idle connection is no reason for that.
    this.on('error', () => undefined);
    // graphile-worker takes a pool on which nobody listens to it for one whose connections' errors nobody hears.
    this.on('connect', () => undefined);
  }

  /**
   * Opens `max(1, min)` connections, and tries again with backoff until the signal fires, or until the failure is one
   * that cannot heal.
   *
   * @throws PgConnectError the failure; `PG_POOL_CLOSED`
   */
  async open(signal?: AbortSignal): Promise<void> {
    const abandon = (): void => this.#engine.abandonOpening(signal?.reason as Error);
    const opening = this.#engine.open();
    if (signal?.aborted) abandon();
    signal?.addEventListener('abort', abandon, { once: true });
    try {
      await opening;
    } finally {
      signal?.removeEventListener('abort', abandon);
    }
  }

  /** {@link LendingPool.open} in the background: it keeps trying, and does not keep the process alive for that. */
  openInBackground(): void {
    this.#engine.openInBackground();
  }

  /**
   * Takes a connection out of the pool, for transactions and whatever else needs the same session twice. Release it in
   * a `finally`, or take it with `await using`.
   *
   * @throws PgModuleError `PG_ACQUIRE_TIMEOUT`, `PG_QUEUE_FULL`, `PG_POOL_CLOSED`; PgConnectError
   */
  override connect(options?: BorrowOptions): Promise<PgLease>;
  override connect(callback: ConnectCallback): void;
  override connect(argument?: BorrowOptions | ConnectCallback): Promise<PgLease> | undefined {
    const callSite = this.#callSites.take();
    if (typeof argument === 'function') {
      this.#connect(argument, callSite);
      return undefined;
    }
    const signal = argument?.signal;
    const leased = signal?.aborted ? undefined : this.#engine.tryAcquire(callSite);
    if (leased) return Promise.resolve(this.#lease(leased));
    return new Promise((resolve, reject) => {
      this.#engine.enqueue(new Borrower(callSite, this.#lease, resolve, reject), signal);
    });
  }

  /** Without a promise in between: of many that are pending, those take longest to collect. */
  #connect(callback: ConnectCallback, callSite: CallSite | undefined): void {
    const leased = this.#engine.tryAcquire(callSite);
    if (leased) {
      process.nextTick(tellBorrower, callback, this.#lease(leased));
      return;
    }
    // He is called back where he asked, and not where another released.
    const context = new AsyncResource('nestjs-pg.connect');
    const served = (client: PgLease): void =>
      process.nextTick(() => context.runInAsyncScope(tellBorrower, undefined, callback, client));
    const refused = (error: Error): void =>
      process.nextTick(() => context.runInAsyncScope(callback, undefined, error, undefined, noRelease));
    this.#engine.enqueue(new Borrower(callSite, this.#lease, served, refused));
  }

  /** Lends a connection to `work` for as long as that takes. */
  async withConnection<T>(work: (client: PgLease) => Promise<T>, options?: BorrowOptions): Promise<T> {
    const client = await this.connect(options);
    try {
      return await work(client);
    } finally {
      if (!client.isReleased) client.release();
    }
  }

  /**
   * Runs one statement on any connection. Errors of the server reject as pg's `DatabaseError` and cost no connection.
   *
   * A config may carry a `signal`: when it fires, the statement is cancelled on the server and the query rejects with
   * `PG_ABORTED` at once. The connection serves others only after the server has said that it is done.
   *
   * @throws PgModuleError `PG_ACQUIRE_TIMEOUT`, `PG_QUEUE_FULL`, `PG_POOL_CLOSED`, `PG_ABORTED`; PgConnectError;
   *   pg.DatabaseError
   */
  override query<T extends pg.Submittable>(queryStream: T): T;
  override query<R extends unknown[] = unknown[], I = unknown[]>(
    queryConfig: pg.QueryArrayConfig<I> & BorrowOptions,
    values?: pg.QueryConfigValues<I>,
  ): Promise<pg.QueryArrayResult<R>>;
  override query<R extends pg.QueryResultRow = pg.QueryResultRow, I = unknown[]>(
    queryConfig: pg.QueryConfig<I> & BorrowOptions,
  ): Promise<pg.QueryResult<R>>;
  override query<R extends pg.QueryResultRow = pg.QueryResultRow, I = unknown[]>(
    queryTextOrConfig: string | pg.QueryConfig<I>,
    values?: pg.QueryConfigValues<I>,
  ): Promise<pg.QueryResult<R>>;
  override query<R extends unknown[] = unknown[], I = unknown[]>(
    queryConfig: pg.QueryArrayConfig<I>,
    callback: (error: Error, result: pg.QueryArrayResult<R>) => void,
  ): void;
  override query<R extends pg.QueryResultRow = pg.QueryResultRow, I = unknown[]>(
    queryTextOrConfig: string | pg.QueryConfig<I>,
    callback: (error: Error, result: pg.QueryResult<R>) => void,
  ): void;
  override query<R extends pg.QueryResultRow = pg.QueryResultRow, I = unknown[]>(
    queryText: string,
    values: pg.QueryConfigValues<I>,
    callback: (error: Error, result: pg.QueryResult<R>) => void,
  ): void;
  override query(config: unknown, values?: unknown, callback?: unknown): unknown {
    return queryInAnyForm(this.queryRunner(), config, values, callback);
  }

  /** Who runs a `query()` that is called here and now. */
  protected queryRunner(): QueryRunner {
    return this.#runner;
  }

  /**
   * Changes the bounds while the pool works; what is not given stays. Connections above a smaller `max` are closed when
   * they rest.
   *
   * @throws PgModuleError `PG_CONFIG_INVALID`
   */
  resize(bounds: { min?: number; max?: number }): void {
    const { min, max } = resolveBounds(bounds, this.#limits);
    this.#limits = { ...this.#limits, min, max };
    Object.assign(this.options, { min, max });
    this.#engine.resize(min, max);
  }

  /** What the pool is doing and has done, at one moment. */
  stats(): PoolStats {
    return this.#engine.stats();
  }

  /**
   * Replaces every connection: those that rest at once, those that are lent when they come back. For the time after a
   * failover, or after a password or certificate has been changed.
   */
  evict(): void {
    this.#engine.evict();
  }

  /** Lends nothing until {@link LendingPool.resume}: borrowers wait, under their usual deadline. */
  suspend(): void {
    this.#engine.suspend();
  }

  resume(): void {
    this.#engine.resume();
  }

  /** Ends the pool: {@link LendingPool.drain} within `drainTimeoutMillis`. Further calls wait for the same end. */
  override end(): Promise<void>;
  override end(callback: () => void): void;
  override end(callback?: () => void): Promise<void> | undefined {
    const ended = this.drain().then(() => undefined);
    if (!callback) return ended;
    void ended.then(callback);
    return undefined;
  }

  /**
   * Refuses new work, rejects waiters with `PG_POOL_CLOSED`, and waits for leases to come back, at most
   * `deadlineMillis` (default `drainTimeoutMillis`). Then running statements are cancelled and their connections closed:
   * the report names who held them. Resolves when every socket is closed. Further calls wait for the same end and can
   * bring it forward: `drain(0)` ends by force, now.
   */
  async drain(deadlineMillis = this.#limits.drainTimeoutMillis): Promise<DrainReport> {
    const ends = this as { ending: boolean; ended: boolean };
    ends.ending = true;
    const report = await this.#engine.drain(deadlineMillis);
    ends.ended = true;
    return report;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  override on(event: 'warning', listener: (message: string) => void): this;
  override on(event: 'dialFailed', listener: (failure: DialFailure) => void): this;
  override on(event: 'connect' | 'acquire' | 'remove', listener: (client: pg.PoolClient) => void): this;
  override on(event: 'error' | 'release', listener: (error: Error, client: pg.PoolClient) => void): this;
  override on(event: string, listener: unknown): this {
    return super.on(event as 'error', listener as () => void);
  }

  /** Has a statement told of on the channel `nestjs-pg:query`, if anybody listens there. */
  protected observe(config: object | string, tell: QueryCallback): QueryCallback {
    if (!channels.query.hasSubscribers) return tell;
    const began = this.#clock.now();
    const text = typeof config === 'string' ? config : (config as { text?: string }).text;
    return (error, result) => {
      this.#publish('query', { pool: this.name, text, millis: this.#clock.now() - began, error: error ?? undefined });
      tell(error, result);
    };
  }

  #borrowed(leased: Leased<PgClient>): BorrowedConnection {
    const release = (retire?: unknown): void => this.#engine.release(leased, Boolean(retire));
    return { client: leased.client, isInTransaction: false, release };
  }

  #run(config: object | string, values: unknown, told: QueryCallback): void {
    const plain = plainQuery(this.statements, config, values);
    const tell = this.observe(config, told);
    new PooledStatement(this.#statementPool, config, values, plain, this.#mayJoin, tell).start();
  }

  #engineEvents(): EngineEvents<PgClient> {
    return {
      opened: (client, millis) => {
        this.#tell('connect', client);
        if (channels.connect.hasSubscribers) this.#publish('connect', { pool: this.name, client, millis });
      },
      lent: (client, waitedMillis) => {
        this.#tell('acquire', client);
        if (channels.acquire.hasSubscribers) this.#publish('acquire', { pool: this.name, client, waitedMillis });
      },
      released: (client, error) => {
        this.#tell('release', error, client);
        if (channels.release.hasSubscribers) this.#publish('release', { pool: this.name, client, error });
      },
      closed: (client, cause) => {
        this.#tell('remove', client);
        if (channels.retire.hasSubscribers) this.#publish('retire', { pool: this.name, client, cause });
      },
      lost: (client, error) => this.#tell('error', error, client),
      dialFailed: (failure) => this.#tell('dialFailed', failure),
      warning: (message) => this.warn(message),
    };
  }

  #publish<N extends keyof PoolMessages>(name: N, message: PoolMessages[N]): void {
    channels[name].publish(message);
  }

  /** A listener that throws must not tear the pool's bookkeeping. */
  #tell<E extends keyof PgPoolEvents>(event: E, ...args: PgPoolEvents[E]): void {
    if (this.listenerCount(event) === 0) return;
    try {
      this.emit(event, ...args);
    } catch (error) {
      this.warn(`Pool "${this.name}": a listener of its event "${event}" threw: ${String(error)}`);
    }
  }

  /** Tells whoever listens for warnings, or the process. Never throws. */
  protected warn(message: string): void {
    try {
      if (this.emit('warning', message)) return;
    } catch {
      // A listener that throws has not told anybody.
    }
    process.emitWarning(message, { type: 'PgPoolWarning' });
  }
}
