import { Bag } from '../util/bag.js';
import type { Clock, Timer } from '../util/clock.js';
import type { IdleStack } from './idle-stack.js';
import type { PooledClient } from './pooled-client.js';
import type { PooledConnection } from './pooled-connection.js';
import type { ResolvedPoolOptions } from './pool-options.js';
import { isAlive } from './recycle.js';

type Idle<C extends PooledClient> = PooledConnection<C, 'idle'>;
type Validating<C extends PooledClient> = PooledConnection<C, 'validating'>;

export interface ValidationOptions<C extends PooledClient> {
  readonly limits: Pick<ResolvedPoolOptions, 'validateTimeoutMillis' | 'keepaliveMillis'>;
  readonly idle: IdleStack<C>;
  readonly clock: Clock;
  /** There is something to keep alive, now or when it comes back to rest. */
  readonly isNeeded: () => boolean;
  /** It has answered or not, in its time, and is not validated any more. */
  readonly answered: (connection: Validating<C>, isAlive: boolean) => void;
}

/** Asks connections that have rested whether their server is still there: for a borrower, and every now and then. */
export class Validation<C extends PooledClient> implements Iterable<Validating<C>> {
  readonly #options: ValidationOptions<C>;
  readonly #underWay = new Bag<Validating<C>>();
  #timer: Timer | undefined;

  constructor(options: ValidationOptions<C>) {
    this.#options = options;
  }

  /** Connections that are being asked. */
  get size(): number {
    return this.#underWay.size;
  }

  [Symbol.iterator](): IterableIterator<Validating<C>> {
    return this.#underWay[Symbol.iterator]();
  }

  /** It is in no stack any more. */
  async ask(idle: Idle<C>): Promise<void> {
    const { limits, clock, answered } = this.#options;
    const connection = idle.validate();
    connection.client.ref();
    this.#underWay.add(connection);
    const alive = await isAlive(connection.client, limits.validateTimeoutMillis, clock);
    // It may have been closed meanwhile.
    if (this.#underWay.delete(connection)) answered(connection, alive);
  }

  /** It is being closed, whatever it answers. */
  forget(connection: Validating<C>): void {
    this.#underWay.delete(connection);
  }

  /** Asks all that rest, as often as `keepaliveMillis` says. */
  keepAlive(): void {
    const { limits, idle, clock, isNeeded } = this.#options;
    const { keepaliveMillis } = limits;
    if (keepaliveMillis === 0 || this.#timer !== undefined || !isNeeded()) return;
    const round = (): void => {
      this.#timer = undefined;
      for (const connection of idle.unprovenSince(clock.now() - keepaliveMillis)) {
        idle.remove(connection);
        void this.ask(connection);
      }
      this.keepAlive();
    };
    // Twice as often, so that none is late by a whole period.
    this.#timer = clock.setTimeout(round, Math.max(1, keepaliveMillis / 2), 'background');
  }

  stop(): void {
    this.#options.clock.clearTimeout(this.#timer);
  }
}
