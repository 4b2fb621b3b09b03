import type { Clock, Timer } from '../util/clock.js';
import type { PooledClient } from './pooled-client.js';
import type { PooledConnection } from './pooled-connection.js';

/** Between two that retire, at least. */
const PACE_MILLIS = 1_000;

type Idle<C extends PooledClient> = PooledConnection<C, 'idle'>;

/**
 * The connections that rest. The one used last is lent first, so that those at the bottom grow old and can retire.
 */
export class IdleStack<C extends PooledClient> {
  readonly #connections: Idle<C>[] = [];
  readonly #timeoutMillis: number;
  readonly #clock: Clock;
  readonly #expired: (connection: Idle<C>) => boolean;
  readonly #paceMillis: number;
  #lastRetired = -Infinity;
  #timer: Timer | undefined;

  /** `timeoutMillis` 0 = none retires; `expired` closes a connection, or says `false` when it is needed for `min`. */
  constructor(timeoutMillis: number, expired: (connection: Idle<C>) => boolean, clock: Clock) {
    this.#timeoutMillis = timeoutMillis;
    this.#paceMillis = Math.min(timeoutMillis, PACE_MILLIS);
    this.#expired = expired;
    this.#clock = clock;
  }

  get length(): number {
    return this.#connections.length;
  }

  /** On top, unless it has rested longer than others: one that was only validated goes back to its place. */
  push(connection: Idle<C>): void {
    let place = this.#connections.length;
    while (place > 0 && (this.#connections[place - 1]?.since ?? 0) > connection.since) place--;
    if (place === this.#connections.length) this.#connections.push(connection);
    else this.#connections.splice(place, 0, connection);
    this.#arm();
  }

  /** Those whose server has not answered since `before`. */
  unprovenSince(before: number): Idle<C>[] {
    return this.#connections.filter(({ provenAt }) => provenAt <= before);
  }

  pop(): Idle<C> | undefined {
    return this.#connections.pop();
  }

  /** The uppermost whose server has answered after `since`: one that was validated may lie below others that were not. */
  popProven(since: number): Idle<C> | undefined {
    const top = this.#connections.at(-1);
    if (!top || top.provenAt > since) return this.#connections.pop();
    const place = this.#connections.findLastIndex(({ provenAt }) => provenAt > since);
    return place === -1 ? undefined : this.#connections.splice(place, 1)[0];
  }

  /** The one that has rested longest. */
  shift(): Idle<C> | undefined {
    return this.#connections.shift();
  }

  /** It must be here. */
  remove(connection: Idle<C>): void {
    this.#connections.splice(this.#connections.indexOf(connection), 1);
  }

  /** Takes all out, and stops the timer. */
  clear(): Idle<C>[] {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    return this.#connections.splice(0);
  }

  /** One timer, for the connection that has rested longest. */
  #arm(): void {
    const [oldest] = this.#connections;
    if (this.#timeoutMillis === 0 || this.#timer !== undefined || !oldest) return;
    const due = Math.max(oldest.since + this.#timeoutMillis, this.#lastRetired + this.#paceMillis);
    const left = Math.max(1, Math.ceil(due - this.#clock.now()));
    this.#timer = this.#clock.setTimeout(() => this.#retire(), left, 'background');
  }

  /** They go one by one: the load that needed them all at once may come back. */
  #retire(): void {
    this.#timer = undefined;
    const now = this.#clock.now();
    const [oldest] = this.#connections;
    if (oldest && now - oldest.since >= this.#timeoutMillis) {
      this.#connections.shift();
      if (this.#expired(oldest)) this.#lastRetired = now;
      else {
        // Kept for `min`: its idleness is counted anew.
        oldest.since = now;
        this.#connections.push(oldest);
      }
    }
    this.#arm();
  }
}
