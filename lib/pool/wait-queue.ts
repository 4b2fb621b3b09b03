import { Fifo, type Linked } from '../util/fifo.js';
import type { Clock, Timer } from '../util/clock.js';

/** A borrower in the queue: one object for each, since there may be many. */
export abstract class Waiter<T> implements Linked<Waiter<T>> {
  previous: Waiter<T> | undefined = undefined;
  next: Waiter<T> | undefined = undefined;
  /** Since when it waits, on the engine's clock; the queue sets it. */
  since = 0;
  /** How long the server will take, in milliseconds, if it may join others on a connection that is working. */
  abstract readonly joinMillis: number | undefined;
  abstract serve(value: T): void;
  abstract refuse(error: Error): void;
}

/**
 * Borrowers in the order in which they came. All have the same patience, so only the head's deadline needs a timer.
 */
export class WaitQueue<T> {
  readonly #waiters = new Fifo<Waiter<T>>();
  readonly #patienceMillis: number;
  readonly #clock: Clock;
  readonly #timedOut: (waited: number) => Error;
  #timer: Timer | undefined;

  /** `patienceMillis` 0 = without limit; `timedOut` makes the error of those who waited in vain. */
  constructor(patienceMillis: number, timedOut: (waited: number) => Error, clock: Clock) {
    this.#patienceMillis = patienceMillis;
    this.#timedOut = timedOut;
    this.#clock = clock;
  }

  get length(): number {
    return this.#waiters.length;
  }

  /** Who is next. */
  get head(): Waiter<T> | undefined {
    return this.#waiters.head;
  }

  push(waiter: Waiter<T>): void {
    waiter.since = this.#clock.now();
    this.#waiters.push(waiter);
    this.#arm();
  }

  /** A waiter gives up. It must still be here. */
  remove(waiter: Waiter<T>): void {
    this.#waiters.remove(waiter);
    if (this.#waiters.length === 0) this.#disarm();
  }

  /** The head, who must be served or refused now. */
  shift(): Waiter<T> | undefined {
    const waiter = this.#waiters.shift();
    if (this.#waiters.length === 0) this.#disarm();
    return waiter;
  }

  rejectAll(error: Error): void {
    for (let waiter = this.shift(); waiter; waiter = this.shift()) waiter.refuse(error);
  }

  #arm(): void {
    const head = this.#waiters.head;
    if (!head || this.#timer !== undefined || this.#patienceMillis === 0) return;
    const left = this.#dueAt(head) - this.#clock.now();
    this.#timer = this.#clock.setTimeout(() => this.#expire(), Math.max(0, Math.ceil(left)));
  }

  #disarm(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Asked for in one way only: times are fractions, and now - since may be less where since + patience is not more. */
  #dueAt({ since }: Waiter<T>): number {
    return since + this.#patienceMillis;
  }

  #expire(): void {
    this.#timer = undefined;
    const now = this.#clock.now();
    for (let { head } = this.#waiters; head && now >= this.#dueAt(head); { head } = this.#waiters) {
      this.#waiters.shift();
      head.refuse(this.#timedOut(now - head.since));
    }
    this.#arm();
  }
}
