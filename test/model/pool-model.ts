import { getEventListeners } from 'node:events';
import { PgModuleError, type PgClient, type PgLease, type PoolStats } from 'nestjs-pg';
import type { ResolvedPoolOptions } from '../../lib/pool/pool-options.js';
import { Ledger } from './ledger.js';
import type { Doing, Step } from './steps.js';
import type { World } from './world.js';

/** Who has asked for a connection (an acquire) or for a statement (a query), and has not been answered. */
interface Asking {
  readonly number: number;
  readonly isAcquire: boolean;
  readonly since: number;
  /** How many waited when it came. */
  readonly ahead: number;
  readonly abort: AbortController;
  /** It has its connection; a query then waits for the server. */
  isServed: boolean;
}

interface Held {
  readonly lease: PgLease;
  readonly client: PgClient | undefined;
}

/** By what a pool and a server may fail the work of the model. Anything else is a bug. */
const FAILURES: ReadonlySet<string> = new Set([
  ...['PG_ACQUIRE_TIMEOUT', 'PG_QUEUE_FULL', 'PG_ABORTED', 'PG_POOL_CLOSED', 'PG_CONNECTION_LOST'],
  // division by zero, a failed transaction, cancelled, terminated, cannot heal
  ...['22012', '25P02', '57014', '57P01', '28P01'],
  // a server that ends without a word
  ...['ECONNRESET', 'EPIPE'],
]);
/** pg's own, which have no code. */
const FAILURE_MESSAGES = /^(Connection terminated|Client has encountered a connection error|Client was closed)/;

/** A validation, a reset and a cancelled statement are over after so long, whatever the server does. */
const PATIENCE_MILLIS = 15_000;

/** After so long a pool has tried again to open a connection. */
const BACKOFF_MILLIS = 6_000;

/**
 * What the pool promises, kept beside it: who asks, who was served, who holds what, how large it may be. Both are compared
 * after every step. It knows nothing of how the pool does it.
 */
export class PoolModel {
  readonly #world: World;
  readonly #limits: ResolvedPoolOptions;
  readonly #ledger: Ledger;
  #asking: Asking[] = [];
  readonly #held: Held[] = [];
  readonly #released: PgLease[] = [];
  readonly #signals: AbortSignal[] = [];
  readonly #complaints = new Set<string>();
  #asked = 0;
  /** Acquires that have their lease, and queries that were sent. */
  #served = 0;
  /** The last one of them. */
  #lastServed = 0;
  readonly #refused: Record<string, number> = {};
  #openings = 0;
  #min: number;
  #max: number;
  /** How large the pool may be: `max`, or as large as it was when that was lowered. */
  #bound: number;
  #wellSince = -Infinity;
  /** The last attempt to open a connection has failed: the next are made one by one. */
  #isFailing = false;
  #isSuspended = false;
  #isDraining = false;
  #isDrained = false;
  #before: PoolStats;
  #checkedAt = 0;

  constructor(world: World, limits: ResolvedPoolOptions) {
    this.#world = world;
    this.#limits = limits;
    this.#min = limits.min;
    this.#max = this.#bound = limits.max;
    const { pool } = world;
    pool.on('warning', () => undefined);
    const rules = {
      maxUses: limits.maxUses,
      maxLifetimeMillis: limits.maxLifetimeSeconds * 1000,
      resetsOnTheWay: limits.reset !== 'rollback',
      forbidden: () => this.#forbidden,
    };
    this.#ledger = new Ledger(
      pool,
      rules,
      () => world.now(),
      (complaint) => this.#complain(complaint),
    );
    this.#before = pool.stats();
  }

  /** @throws Error with all that does not hold after it */
  async take(step: Step): Promise<void> {
    this.#do(step);
    await this.#pass(step.kind === 'pass' ? step.millis : 0);
  }

  get #forbidden(): string | undefined {
    if (this.#isSuspended) return 'by a pool that is suspended';
    return this.#isDraining ? 'by a pool that is draining' : undefined;
  }

  #do(step: Step): void {
    const { pool } = this.#world;
    switch (step.kind) {
      case 'acquire':
        for (let made = 0; made < step.count; made++) this.#acquire(step.signal);
        break;
      case 'query':
        for (let made = 0; made < step.count; made++) this.#query(step.doing, step.signal);
        break;
      case 'run':
        this.#run(step.which, step.doing);
        break;
      case 'release':
        this.#release(step.which, step.how);
        break;
      case 'release again':
        this.#releaseAgain(one(this.#released, step.which));
        break;
      case 'use released':
        this.#useReleased(one(this.#released, step.which));
        break;
      case 'abort':
        one(this.#asking, step.which)?.abort.abort();
        break;
      case 'kill': {
        const client = one(this.#ledger.clients, step.which);
        if (client) this.#world.kill(client);
        break;
      }
      case 'resize':
        this.#min = step.min;
        this.#max = step.max;
        this.#bound = Math.max(step.max, pool.totalCount);
        pool.resize({ min: step.min, max: step.max });
        break;
      case 'evict':
        this.#ledger.evict();
        pool.evict();
        break;
      case 'suspend':
        pool.suspend();
        this.#isSuspended = true;
        break;
      case 'resume':
        this.#isSuspended = false;
        pool.resume();
        break;
      case 'open':
        this.#open();
        break;
      case 'stop server':
      case 'mute server':
      case 'lock server':
      case 'fail a set-up':
      case 'start server':
        this.#world.fault(step.kind);
        this.#wellSince = step.kind === 'start server' ? this.#world.now() : Infinity;
        break;
      case 'pass':
        break;
    }
  }

  #ask(isAcquire: boolean, signal: boolean): Asking {
    this.#noteSent();
    const asking = {
      number: ++this.#asked,
      isAcquire,
      since: this.#world.now(),
      ahead: this.#waiting.length,
      abort: new AbortController(),
      isServed: false,
    };
    if (signal) this.#signals.push(asking.abort.signal);
    this.#asking.push(asking);
    return asking;
  }

  get #waiting(): readonly Asking[] {
    return this.#asking.filter(({ isServed }) => !isServed);
  }

  #acquire(signal: boolean): void {
    const asking = this.#ask(true, signal);
    this.#world.pool.connect(signal ? { signal: asking.abort.signal } : undefined).then(
      (lease) => {
        const first = this.#waiting.find(({ isAcquire }) => isAcquire);
        if (first !== asking)
          this.#complain(`acquire ${asking.number} was served before acquire ${String(first?.number)}`);
        this.#wasServed(asking.number);
        this.#wasAnswered(asking);
        this.#held.push({ lease, client: this.#ledger.clients.find((client) => client.processId === lease.processId) });
      },
      (error: unknown) => this.#wasRefused(asking, error),
    );
  }

  #query(doing: Doing, signal: boolean): void {
    const asking = this.#ask(false, signal);
    const statement = this.#world.statement(doing, asking.number);
    const config = signal ? { ...statement, signal: asking.abort.signal } : statement;
    this.#world.pool.query<{ number: number }>(config).then(
      ({ rows }) => {
        this.#wasAnswered(asking);
        if (doing === 'fail') this.#complain('a statement that fails has succeeded');
        if (rows[0]?.number !== asking.number) {
          this.#complain(`statement ${asking.number} has the answer of ${String(rows[0]?.number)}`);
        }
      },
      (error: unknown) => this.#wasRefused(asking, error),
    );
  }

  #wasServed(number: number): void {
    const asking = this.#asking.find((other) => other.number === number);
    if (asking) asking.isServed = true;
    this.#served++;
    this.#lastServed = Math.max(this.#lastServed, number);
  }

  /** Queries that have a connection now. */
  #noteSent(): void {
    for (const number of this.#world.sent()) this.#wasServed(number);
  }

  #wasAnswered(asking: Asking): void {
    if (!this.#asking.includes(asking)) this.#complain(`${asking.number} was answered twice`);
    this.#asking = this.#asking.filter((other) => other !== asking);
  }

  #wasRefused(asking: Asking, error: unknown): void {
    this.#wasAnswered(asking);
    this.#mayFail(error);
    const code = codeOf(error);
    this.#refused[code] = (this.#refused[code] ?? 0) + 1;
    const waited = this.#world.now() - asking.since;
    if (code === 'PG_ABORTED' && !asking.abort.signal.aborted) this.#complain('PG_ABORTED, and no signal has fired');
    if (code === 'PG_POOL_CLOSED' && !this.#isDraining) this.#complain('PG_POOL_CLOSED, and the pool is open');
    if (code === 'PG_QUEUE_FULL' && asking.ahead < this.#limits.maxWaiting)
      this.#complain(`PG_QUEUE_FULL at ${asking.ahead}`);
    if (code === 'PG_ACQUIRE_TIMEOUT' && waited < this.#limits.acquireTimeoutMillis) {
      this.#complain(`PG_ACQUIRE_TIMEOUT after ${waited} ms`);
    }
  }

  #mayFail(error: unknown): void {
    if (FAILURES.has(codeOf(error)) || FAILURE_MESSAGES.test((error as Error).message)) return;
    this.#complain(`failed by ${String((error as Error).stack)}`);
  }

  #run(which: number, doing: Doing | 'BEGIN' | 'COMMIT' | 'ROLLBACK'): void {
    const lease = one(this.#held, which)?.lease;
    const isWork = doing === 'fast' || doing === 'slow' || doing === 'fail' || doing === 'hang';
    const done = lease?.query(isWork ? this.#world.statement(doing, 0) : { text: doing });
    done?.catch((error: unknown) => this.#mayFail(error));
  }

  #release(which: number, how: 'plain' | 'true' | 'error'): void {
    const held = one(this.#held, which);
    if (!held) return;
    this.#held.splice(this.#held.indexOf(held), 1);
    held.lease.release(how === 'plain' ? undefined : how === 'true' ? true : new Error('asked for'));
    if (how !== 'plain' && held.client && !held.client.isClosed)
      this.#complain('release(true) has not closed its connection');
    this.#released.push(held.lease);
    if (this.#released.length > 20) this.#released.shift();
  }

  #releaseAgain(lease: PgLease | undefined): void {
    try {
      lease?.release();
    } catch (error) {
      if (codeOf(error) === 'PG_LEASE_RELEASED') return;
    }
    if (lease) this.#complain('a lease was released twice');
  }

  #useReleased(lease: PgLease | undefined): void {
    lease?.query('SELECT 1').then(
      () => this.#complain('a released lease was used'),
      (error: unknown) => {
        if (codeOf(error) !== 'PG_LEASE_RELEASED') this.#complain(`a released lease was refused by ${codeOf(error)}`);
      },
    );
  }

  #open(): void {
    this.#openings++;
    const over = (): number => this.#openings--;
    this.#world.pool.open().then(over, (error: unknown) => {
      over();
      this.#mayFail(error);
    });
  }

  #complain(complaint: string): void {
    this.#complaints.add(complaint);
  }

  async #pass(millis: number): Promise<void> {
    await this.#world.pass(millis);
    if (this.#world.isExact) await this.#checkSessions();
    this.check();
  }

  /** The server has the sessions that the pool knows of, and no others. */
  async #checkSessions(): Promise<boolean> {
    const seen = await this.#world.sessions();
    const known = this.#ledger.clients;
    const pids = new Set(known.map(({ processId }) => processId));
    const strange = seen.filter((pid) => !pids.has(pid)).length;
    const missing = known.filter(
      ({ isClosed, fault, processId }) => !isClosed && fault === undefined && !seen.includes(processId ?? 0),
    ).length;
    if (!this.#world.isExact) return strange + missing === 0;
    // Those that are being set up do not belong to the pool yet.
    if (strange > this.#world.pool.stats().dialling) this.#complain(`${strange} sessions that the pool does not know`);
    if (missing > 0) this.#complain(`${missing} connections that the server does not know`);
    return true;
  }

  /** @throws Error with all that does not hold */
  check(): void {
    const stats = this.#world.pool.stats();
    const hold = (isTrue: boolean, otherwise: string): void => {
      if (!isTrue) this.#complain(otherwise);
    };
    this.#checkSizes(stats, hold);
    this.#checkCounters(stats, hold);
    this.#checkQueue(stats, hold);
    this.#before = stats;
    this.#checkedAt = this.#world.now();
    if (this.#complaints.size > 0) throw new Error([...this.#complaints, JSON.stringify(stats)].join('\n'));
  }

  #checkSizes(stats: PoolStats, hold: (isTrue: boolean, otherwise: string) => void): void {
    const { idle, leased, resetting, validating, dialling, total, connects } = stats;
    const established = idle + leased + resetting + validating;
    hold(total === established + dialling, 'a connection is in no state, or in two');
    hold(
      connects - sum(stats.retired) === established,
      `${connects} opened, ${sum(stats.retired)} retired, ${established} there`,
    );
    this.#bound = Math.max(this.#max, Math.min(this.#bound, total));
    hold(total <= this.#bound, `${total} connections, and ${this.#bound} may be`);
    hold(stats.min === this.#min && stats.max === this.#max, 'it has other bounds than it was given');
    hold(stats.suspended === this.#isSuspended && stats.draining === this.#isDraining, 'it does not do as it was told');
    // A pool that is in use keeps `min`, unless the server was ill just now.
    const failed = stats.connectFailures > this.#before.connectFailures;
    this.#isFailing = failed || (this.#isFailing && connects === this.#before.connects);
    const isWell = !this.#isFailing && this.#world.now() > this.#wellSince + BACKOFF_MILLIS;
    const isKept = isWell && stats.acquires > 0 && !this.#isDraining;
    hold(!this.#world.isExact || !isKept || total >= this.#min, `${total} connections, and min is ${this.#min}`);
    // What is being closed is in none of its states any more.
    hold(
      established <= this.#ledger.clients.length,
      `${established} connections, ${this.#ledger.clients.length} of them known`,
    );
    const alive = this.#held.filter(({ lease }) => !lease.isClosed).length;
    if (this.#world.isExact)
      hold(leased === this.#ledger.holders, `${leased} leased, and ${this.#ledger.holders} were lent`);
    else hold(leased >= alive, `${leased} leased, and ${alive} are held`);
  }

  #checkCounters(stats: PoolStats, hold: (isTrue: boolean, otherwise: string) => void): void {
    const { acquires, connects, timeouts, queueFull } = stats;
    for (const [name, count] of [...Object.entries(stats), ...Object.entries(stats.retired)]) {
      if (typeof count !== 'number' || name in GAUGES) continue;
      const before = { ...this.#before.retired, ...this.#before }[name as 'waits'] ?? 0;
      hold(count >= before, `${name} fell from ${before} to ${count}`);
    }
    hold(acquires === this.#ledger.lent, `${acquires} acquires, and ${this.#ledger.lent} were lent`);
    hold(connects === this.#ledger.opened, `${connects} connects, and ${this.#ledger.opened} were opened`);
    hold(timeouts === (this.#refused['PG_ACQUIRE_TIMEOUT'] ?? 0), `${timeouts} timeouts were counted`);
    hold(queueFull === (this.#refused['PG_QUEUE_FULL'] ?? 0), `${queueFull} queueFull were counted`);
    this.#checkIdleRetirement(stats, hold);
  }

  /** Idle connections go down to `min`, and one a second. */
  #checkIdleRetirement(stats: PoolStats, hold: (isTrue: boolean, otherwise: string) => void): void {
    const gone = (stats.retired.idle ?? 0) - (this.#before.retired.idle ?? 0);
    if (gone === 0) return;
    const seconds = (this.#world.now() - this.#checkedAt) / 1000;
    hold(gone <= Math.floor(seconds) + 1, `${gone} retired within ${seconds} s`);
    const isOnly = sum(stats.retired) - sum(this.#before.retired) === gone;
    hold(!isOnly || stats.total >= this.#min, `${stats.total} are left, and min is ${this.#min}`);
  }

  #checkQueue(stats: PoolStats, hold: (isTrue: boolean, otherwise: string) => void): void {
    const { isExact } = this.#world;
    const { waiting, idle, validating, acquires, joins } = stats;
    const { acquireTimeoutMillis } = this.#limits;
    this.#noteSent();
    const waiters = this.#waiting;
    const askers = waiters.filter(({ isAcquire }) => isAcquire).length;
    hold(waiting >= askers && waiting <= waiters.length, `${waiting} wait, and ${askers} to ${waiters.length} ask`);
    hold(this.#isSuspended || idle === 0 || waiting <= validating, `${waiting} wait while ${idle} rest`);
    hold(!this.#isDraining || waiting === 0, `${waiting} wait for a pool that is draining`);
    const late = this.#asking.filter(({ abort }) => abort.signal.aborted && this.#signals.includes(abort.signal));
    hold(late.length === 0, `${late.length} go on though their signals have fired`);
    if (!isExact) return;
    hold(waiting === waiters.length, `${waiting} wait, and ${waiters.length} ask`);
    hold(acquires + joins === this.#served, `${acquires} acquires and ${joins} joins, and ${this.#served} were served`);
    const [first] = waiters;
    if (!first) return;
    hold(first.number > this.#lastServed, `${this.#lastServed} was served before ${first.number}, who still waits`);
    const waited = this.#world.now() - first.since;
    // Timers count whole milliseconds.
    hold(waited < acquireTimeoutMillis + 1, `${first.number} has waited for ${waited} ms of ${acquireTimeoutMillis}`);
  }

  /** Everything is given back, and the server is well: everybody is served, and the pool rests. */
  async calm(): Promise<void> {
    const { isExact } = this.#world;
    this.#do({ kind: 'start server' });
    if (this.#isSuspended) this.#do({ kind: 'resume' });
    const until = this.#world.now() + PATIENCE_MILLIS;
    while (!this.#isCalm || !(await this.#checkSessions())) {
      while (this.#held.length > 0) this.#release(0, 'plain');
      // What hangs is ended by somebody else.
      for (const client of this.#ledger.clients) if (!client.isReady && !client.isClosed) this.#world.cancel(client);
      await this.#pass(isExact ? 50 : 5);
      if (this.#world.now() > until) throw new Error(`does not come to rest: ${this.#state}`);
    }
    this.#checkListeners();
    this.check();
  }

  get #isCalm(): boolean {
    const { idle, total, acquires } = this.#world.pool.stats();
    const isKept = acquires === 0 || total >= this.#min;
    return (
      this.#asking.length + this.#held.length + this.#openings === 0 &&
      isKept &&
      idle === total &&
      total === this.#ledger.clients.length
    );
  }

  get #state(): string {
    const { length } = this.#asking;
    return JSON.stringify({
      asking: length,
      openings: this.#openings,
      clients: this.#ledger.clients.length,
      ...this.#world.pool.stats(),
    });
  }

  /** Begins the pool's end; steps may follow. */
  drain(deadlineMillis: number): void {
    this.#isDraining = true;
    void this.#world.pool.drain(deadlineMillis).then(() => (this.#isDrained = true));
  }

  /** Waits for the end, and sees that nothing is left. */
  async end(): Promise<void> {
    const until = this.#world.now() + PATIENCE_MILLIS;
    while (!this.#isOver || !(await this.#checkSessions())) {
      await this.#pass(this.#world.isExact ? 100 : 5);
      if (this.#world.now() > until) throw new Error(`does not end: ${this.#state}`);
    }
    this.#checkListeners();
    this.check();
  }

  get #isOver(): boolean {
    const { total, waiting } = this.#world.pool.stats();
    const left = this.#asking.length + this.#openings + this.#ledger.clients.length;
    return this.#isDrained && left + total + waiting === 0;
  }

  /** Nobody listens to what is over. */
  #checkListeners(): void {
    for (const client of this.#ledger.clients) {
      if (client.listenerCount('drain') > 0) this.#complain('somebody waits for a connection that rests');
    }
    const heard = this.#signals.filter((signal) => getEventListeners(signal, 'abort').length > 0).length;
    if (heard > 0) this.#complain(`${heard} signals of work that is over are listened to`);
  }
}

/** Sizes, which may fall. */
const GAUGES = { min: 0, max: 0, idle: 0, leased: 0, resetting: 0, validating: 0, dialling: 0, total: 0, waiting: 0 };

function sum(retired: PoolStats['retired']): number {
  return Object.values(retired).reduce((total, count) => total + count, 0);
}

function one<T>(all: readonly T[], which: number): T | undefined {
  return all[which % Math.max(1, all.length)];
}

function codeOf(error: unknown): string {
  if (error instanceof PgModuleError) return error.code;
  return (error as { code?: string }).code ?? '';
}
