import { StatementCatalog } from '../../lib/client/statement-catalog.js';
import { PgModuleError } from '../../lib/errors/pg-module.error.js';
import { LendingPool } from '../../lib/pool/lending-pool.js';
import type { PgLease } from '../../lib/pool/lease.js';
import { resolvePoolOptions, type PoolOptions } from '../../lib/pool/pool-options.js';
import type { PoolStats } from '../../lib/pool/pool-stats.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { SimulatedServer } from './simulated-server.js';
import type { Step } from './steps.js';

/** What the pool of the model is made with. Short times, so that steps reach them. */
export const OPTIONS = {
  min: 1,
  max: 4,
  acquireTimeoutMillis: 5_000,
  connectTimeoutMillis: 1_000,
  maxWaiting: 8,
  idleTimeoutMillis: 30_000,
  maxLifetimeSeconds: 60,
  lifetimeJitter: 0,
  maxUses: 40,
  validateAfterIdleMillis: 1_000,
  validateTimeoutMillis: 500,
  keepaliveMillis: 20_000,
  leakThresholdMillis: 10_000,
} as const satisfies PoolOptions;

/** Somebody who has asked for a connection, or for a statement. */
interface Asking {
  readonly since: number;
  readonly abort: AbortController;
  readonly isAcquire: boolean;
}

interface Held {
  readonly lease: PgLease;
  /** The session behind it. */
  readonly pid: number;
  /** A statement of a holder's that has not ended. */
  running: number;
}

/** Whatever a pool may refuse by; anything else is a bug. */
const REFUSALS: ReadonlySet<string> = new Set([
  ...['PG_ACQUIRE_TIMEOUT', 'PG_QUEUE_FULL', 'PG_ABORTED', 'PG_POOL_CLOSED', 'PG_LEASE_RELEASED'],
  ...['22012', '57014', '57P01', 'not queryable', 'Connection terminated'],
]);

/**
 * What the pool promises, kept beside the pool itself: who asks and since when, who holds what, how large it may be. After
 * every step both are compared, and with what the server sees.
 */
export class PoolModel {
  readonly clock = new ManualClock();
  readonly server = new SimulatedServer(this.clock);
  readonly pool: LendingPool;
  readonly asking: Asking[] = [];
  readonly held: Held[] = [];
  readonly released: PgLease[] = [];
  /** Sessions that there were at an evict(). */
  readonly #evicted = new Set<number>();
  steps = 0;
  /** How large the pool may still be after it was made smaller. */
  #bound: number = OPTIONS.max;
  #max: number = OPTIONS.max;
  #suspended = false;
  #before: PoolStats;
  readonly #complaints: string[] = [];

  constructor(options: PoolOptions = OPTIONS) {
    const connect = async (signal: AbortSignal) => {
      // As the connection factory does: the pool itself has no clock for this.
      const deadline = new AbortController();
      const timer = this.clock.setTimeout(() => deadline.abort(new Error('connect timeout')), 1_000);
      try {
        return await this.server.connect(AbortSignal.any([signal, deadline.signal]));
      } finally {
        this.clock.clearTimeout(timer);
      }
    };
    this.pool = new LendingPool({
      name: 'model',
      limits: resolvePoolOptions(options, undefined),
      shown: {},
      connect,
      statements: new StatementCatalog(10, () => undefined),
      isPermanent: () => false,
      clock: this.clock,
    });
    this.pool.on('warning', () => undefined);
    this.#before = this.pool.stats();
  }

  async take(step: Step): Promise<void> {
    this.steps++;
    this.#do(step);
    await this.clock.advance(step.kind === 'pass' ? step.millis : 0);
    await settle();
    this.check();
  }

  #do(step: Step): void {
    switch (step.kind) {
      case 'acquire':
        this.#acquire(step.signal);
        return;
      case 'query':
        this.#query(step.text, step.signal);
        return;
      case 'run':
        this.#run(step.which, step.text);
        return;
      case 'release':
        this.#release(step.which, step.how);
        return;
      case 'release again': {
        const lease = one(this.released, step.which);
        if (lease && !throws(() => lease.release(), 'PG_LEASE_RELEASED')) this.#complain('a lease was released twice');
        return;
      }
      case 'use released':
        one(this.released, step.which)
          ?.query('SELECT fast')
          .then(
            () => this.#complain('a released lease was used'),
            (error: unknown) => {
              if (codeOf(error) !== 'PG_LEASE_RELEASED') this.#complain(`a released lease was refused by ${codeOf(error)}`);
            },
          );
        return;
      case 'abort':
        one(this.asking, step.which)?.abort.abort();
        return;
      case 'kill':
        one([...this.server.sessions], step.which)?.kill();
        return;
      case 'resize':
        this.#max = step.max;
        this.#bound = Math.max(step.max, this.pool.totalCount);
        this.pool.resize({ min: step.min, max: step.max });
        return;
      case 'evict':
        for (const { processID } of this.server.sessions) this.#evicted.add(processID);
        this.pool.evict();
        return;
      case 'suspend':
        this.#suspended = true;
        this.pool.suspend();
        return;
      case 'resume':
        this.#suspended = false;
        this.pool.resume();
        return;
      case 'stop server':
        this.server.stop();
        return;
      case 'mute server':
        this.server.isMute = true;
        return;
      case 'start server':
        this.server.start();
        return;
      case 'bad set-up':
        this.server.badSetUps++;
        return;
      case 'pass':
        return;
    }
  }

  #acquire(signal: boolean): void {
    const asking = this.#ask(true);
    const first = signal ? { signal: asking.abort.signal } : undefined;
    this.pool.connect(first).then(
      (lease) => {
        const place = this.asking.filter(({ isAcquire }) => isAcquire).indexOf(asking);
        if (place !== 0) this.#complain(`number ${place} of the queue was served before the first`);
        this.#answered(asking);
        const pid = lease.processId ?? 0;
        if (this.held.some((other) => other.pid === pid && !other.lease.isClosed)) {
          this.#complain(`session ${pid} was lent twice`);
        }
        if (this.#evicted.has(pid)) this.#complain(`session ${pid} was lent after it had been evicted`);
        if (lease.getTransactionStatus() !== 'I' && !lease.isClosed) this.#complain('lent inside of a transaction');
        this.held.push({ lease, pid, running: 0 });
      },
      (error: unknown) => this.#refused(asking, error),
    );
  }

  #query(text: string, signal: boolean): void {
    const asking = this.#ask(false);
    const config = signal ? { text, signal: asking.abort.signal } : text;
    this.pool.query(config as string).then(
      () => {
        this.#answered(asking);
        if (text === 'SELECT fail') this.#complain('a statement that fails has succeeded');
      },
      (error: unknown) => this.#refused(asking, error),
    );
  }

  #run(which: number, text: string): void {
    const held = one(this.held, which);
    if (!held) return;
    held.running++;
    held.lease.query(text).then(
      () => held.running--,
      (error: unknown) => {
        held.running--;
        this.#expected(error);
      },
    );
  }

  #release(which: number, how: 'plain' | 'true' | 'error'): void {
    const held = one(this.held, which);
    if (!held) return;
    this.held.splice(this.held.indexOf(held), 1);
    held.lease.release(how === 'plain' ? undefined : how === 'true' ? true : new Error('asked for'));
    this.released.push(held.lease);
    if (this.released.length > 20) this.released.shift();
  }

  #ask(isAcquire: boolean): Asking {
    const asking = { since: this.clock.now(), abort: new AbortController(), isAcquire };
    this.asking.push(asking);
    return asking;
  }

  #answered(asking: Asking): void {
    this.asking.splice(this.asking.indexOf(asking), 1);
  }

  #refused(asking: Asking, error: unknown): void {
    this.#answered(asking);
    this.#expected(error);
    const code = codeOf(error);
    if (code === 'PG_ABORTED' && !asking.abort.signal.aborted) this.#complain('refused by a signal that has not fired');
    const waited = this.clock.now() - asking.since;
    if (code === 'PG_ACQUIRE_TIMEOUT' && waited < OPTIONS.acquireTimeoutMillis - 1) {
      this.#complain(`refused after ${waited} ms of ${OPTIONS.acquireTimeoutMillis}`);
    }
  }

  #expected(error: unknown): void {
    if (!REFUSALS.has(codeOf(error))) this.#complain(`failed by ${String(error)}`);
  }

  #complain(complaint: string): void {
    this.#complaints.push(complaint);
  }

  /** @throws Error with everything that does not hold */
  check(): void {
    const stats = this.pool.stats();
    const { idle, leased, resetting, validating, dialling, total, waiting } = stats;
    const established = idle + leased + resetting + validating;
    const hold = (isTrue: boolean, what: string): void => {
      if (!isTrue) this.#complain(what);
    };

    hold(established + dialling === total, 'every connection is in one state');
    this.#bound = Math.max(this.#max, Math.min(this.#bound, total));
    hold(total <= this.#bound, `${total} connections, and no more than ${this.#bound} may be`);
    hold(stats.max === this.#max && stats.suspended === this.#suspended, 'it does as it was told');

    const retired = Object.values(stats.retired).reduce((sum, count) => sum + count, 0);
    hold(stats.connects - retired === established, 'what was opened is there or was retired, and is counted once');
    hold(established <= this.server.sessions.size, `${established} connections of ${this.server.sessions.size} sessions`);
    for (const counter of ['acquires', 'waits', 'timeouts', 'connects', 'connectFailures', 'joins', 'resets'] as const) {
      hold(stats[counter] >= this.#before[counter], `${counter} never falls`);
    }
    this.#before = stats;

    const alive = this.held.filter(({ lease }) => !lease.isClosed);
    const queries = this.asking.filter(({ isAcquire }) => !isAcquire).length;
    const acquires = this.asking.length - queries;
    hold(leased >= alive.length, `${alive.length} leases, and the pool knows of ${leased}`);
    // A statement that was given up keeps its connection until the server has heard of it.
    hold(new Set(alive.map(({ pid }) => pid)).size === alive.length, 'no connection has two holders');
    hold(waiting >= acquires && waiting <= acquires + queries, `${acquires} to ${acquires + queries} ask, ${waiting} wait`);
    hold(this.#suspended || waiting <= validating || idle === 0, `${waiting} wait while ${idle} rest`);
    const now = this.clock.now();
    const oldest = this.asking.filter(({ isAcquire }) => isAcquire).map(({ since }) => now - since);
    hold(
      oldest.every((millis) => millis <= OPTIONS.acquireTimeoutMillis + 1),
      `somebody has waited for ${Math.max(...oldest)} ms`,
    );
    if (this.#complaints.length > 0) throw new Error(this.#complaints.join('\n'));
  }

  /** Gives everything back while the server is well: everybody is served, and the pool comes to rest. */
  async calm(): Promise<void> {
    this.server.start();
    this.server.badSetUps = 0;
    this.pool.resume();
    this.#suspended = false;
    for (const asking of this.asking) asking.abort.abort();
    const deadline = this.clock.now() + 60_000;
    do {
      while (this.held.length > 0) this.#release(0, 'plain');
      // What hangs without a signal is ended by the server's administrator.
      for (const session of this.server.sessions) void session.cancelRunning();
      await this.clock.advance(100);
      await settle();
      this.check();
    } while ((this.asking.length > 0 || this.held.length > 0) && this.clock.now() < deadline);
    if (this.asking.length > 0) throw new Error(`${this.asking.length} were never answered`);
    await this.clock.advance(8_000);
    this.check();
    const { idle, total, min, max } = this.pool.stats();
    if (total > max) throw new Error(`${total} connections, and max is ${max}`);
    const sessions = this.server.sessions.size;
    if (idle !== total || sessions !== total) throw new Error(`${idle} of ${total} connections rest, ${sessions} sessions`);
    if (total < min && this.#before.acquires > 0) throw new Error(`${total} connections, and min is ${min}`);
  }

  /** Ends the pool as it is; nothing is left of it. */
  async end(): Promise<void> {
    let isEnded = false;
    void this.pool.drain(2_000).then(() => (isEnded = true));
    await this.clock.advance(40_000);
    await settle();
    const left = { isEnded, asking: this.asking.length, sessions: this.server.sessions.size, timers: this.clock.timers };
    const { total, waiting } = this.pool.stats();
    const nothing = { isEnded: true, asking: 0, sessions: 0, timers: 0 };
    if (JSON.stringify(left) !== JSON.stringify(nothing) || total + waiting > 0) {
      throw new Error(`left behind: ${JSON.stringify({ ...left, total, waiting })}`);
    }
    if (this.#complaints.length > 0) throw new Error(this.#complaints.join('\n'));
  }
}

function one<T>(all: readonly T[], which: number): T | undefined {
  return all[which % Math.max(1, all.length)];
}

function codeOf(error: unknown): string {
  if (error instanceof PgModuleError) return error.code;
  const { code, message } = error as { code?: string; message: string };
  return code ?? message;
}

function throws(work: () => void, code: string): boolean {
  try {
    work();
    return false;
  } catch (error) {
    return codeOf(error) === code;
  }
}
