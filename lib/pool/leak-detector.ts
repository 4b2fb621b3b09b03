import type { Bag } from '../util/bag.js';
import type { Clock, Timer } from '../util/clock.js';
import { formatMillis } from '../util/duration.js';
import type { PooledClient } from './pooled-client.js';
import type { PooledConnection } from './pooled-connection.js';

type Leased = PooledConnection<PooledClient, 'leased'>;

/**
 * Tells of leases that are held too long, once each, and again when such a one comes back after all. A `pool.query()`
 * is no borrower that could forget anything, and is not watched.
 */
export class LeakDetector {
  readonly #thresholdMillis: number;
  readonly #leases: Bag<Leased>;
  readonly #clock: Clock;
  readonly #tell: (what: string, isNew: boolean) => void;
  readonly #told = new WeakSet<Leased>();
  #timer: Timer | undefined;

  /** `thresholdMillis` 0 = it does nothing. */
  constructor(
    thresholdMillis: number,
    leases: Bag<Leased>,
    clock: Clock,
    tell: (what: string, isNew: boolean) => void,
  ) {
    this.#thresholdMillis = thresholdMillis;
    this.#leases = leases;
    this.#clock = clock;
    this.#tell = tell;
  }

  /** A lease has begun. */
  watch(): void {
    if (this.#thresholdMillis === 0 || this.#timer !== undefined) return;
    // Half the threshold: a leak is told of at the latest after one and a half.
    this.#timer = this.#clock.setTimeout(() => this.#look(), Math.max(1, this.#thresholdMillis / 2), 'background');
  }

  /** A lease has ended. */
  returned(lease: Leased): void {
    if (this.#thresholdMillis === 0 || !this.#told.delete(lease)) return;
    const held = formatMillis(this.#clock.now() - lease.since);
    this.#tell(`a connection taken at ${String(lease.callSite)} came back after ${held}.`, false);
  }

  stop(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    this.#timer = undefined;
    const now = this.#clock.now();
    for (const lease of this.#leases) {
      const held = now - lease.since;
      if (!lease.callSite || held < this.#thresholdMillis || this.#told.has(lease)) continue;
      this.#told.add(lease);
      this.#tell(
        `a connection taken at ${lease.callSite.toString()} has been held for ${formatMillis(held)} ` +
          `(pool.leakThresholdMillis is ${this.#thresholdMillis}). Release it in a finally block.\n` +
          lease.callSite.trace(),
        true,
      );
    }
    if (this.#leases.size > 0) this.watch();
  }
}
