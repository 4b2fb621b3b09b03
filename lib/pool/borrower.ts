import type { CallSite } from '../util/call-site.js';
import type { PooledClient } from './pooled-client.js';
import type { Leased } from './pooled-connection.js';
import { Waiter } from './wait-queue.js';

/** Who waits for a connection of his own, and is told of what is made of it. */
export class Borrower<C extends PooledClient, T> extends Waiter<Leased<C>> {
  readonly joinMillis = undefined;
  readonly refuse: (error: Error) => void;
  readonly #callSite: CallSite | undefined;
  readonly #made: (leased: Leased<C>) => T;
  readonly #resolve: (value: T) => void;

  constructor(
    callSite: CallSite | undefined,
    made: (leased: Leased<C>) => T,
    resolve: (value: T) => void,
    reject: (error: Error) => void,
  ) {
    super();
    this.#callSite = callSite;
    this.#made = made;
    this.#resolve = resolve;
    this.refuse = reject;
  }

  serve(leased: Leased<C>): void {
    leased.callSite = this.#callSite;
    this.#resolve(this.#made(leased));
  }
}

/** A waiter that a signal may call away. */
export class AbortableWaiter<T> extends Waiter<T> {
  readonly joinMillis: number | undefined;
  readonly #waiter: Waiter<T>;
  readonly #signal: AbortSignal;
  readonly #abort: () => void;

  /** `leave` takes it out of the queue, and says what it is told. */
  constructor(waiter: Waiter<T>, signal: AbortSignal, leave: (waiter: Waiter<T>) => Error) {
    super();
    this.joinMillis = waiter.joinMillis;
    this.#waiter = waiter;
    this.#signal = signal;
    this.#abort = () => waiter.refuse(leave(this));
    signal.addEventListener('abort', this.#abort, { once: true });
  }

  serve(value: T): void {
    this.#signal.removeEventListener('abort', this.#abort);
    this.#waiter.serve(value);
  }

  refuse(error: Error): void {
    this.#signal.removeEventListener('abort', this.#abort);
    this.#waiter.refuse(error);
  }
}
