import type { RetireCause } from './pooled-connection.js';

/** What a pool has done since it was made. */
export interface PoolCounters {
  /** Leases given, `pool.query()` included. */
  acquires: number;
  /** Statements of `pool.query()` that joined others on a connection that was working. */
  joins: number;
  /** Leases for which the borrower had to wait, and how long in all. */
  waits: number;
  waitMillis: number;
  /** Borrowers refused: by `acquireTimeoutMillis`, by `maxWaiting`, by their own signal. */
  timeouts: number;
  queueFull: number;
  aborted: number;
  /** Connections opened, and how long that took in all. */
  connects: number;
  connectMillis: number;
  connectFailures: number;
  /** Sessions reset between two leases: rolled back, or by `pool.reset`. */
  resets: number;
  /** Leases held longer than `leakThresholdMillis`. */
  leaks: number;
  /** Connections closed, by cause. */
  retired: Partial<Record<RetireCause, number>>;
}

/** One consistent view of a pool: everything in it was true at the same moment. */
export interface PoolStats extends Readonly<PoolCounters> {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  /** Connections by state. */
  readonly idle: number;
  readonly leased: number;
  readonly resetting: number;
  readonly validating: number;
  readonly dialling: number;
  /** idle + leased + resetting + validating + dialling; never above `max`, unless that was lowered just now. */
  readonly total: number;
  /** Borrowers in the queue. */
  readonly waiting: number;
  readonly suspended: boolean;
  readonly draining: boolean;
}

export function newCounters(): PoolCounters {
  return {
    acquires: 0,
    joins: 0,
    waits: 0,
    waitMillis: 0,
    timeouts: 0,
    queueFull: 0,
    aborted: 0,
    connects: 0,
    connectMillis: 0,
    connectFailures: 0,
    resets: 0,
    leaks: 0,
    retired: {},
  };
}
