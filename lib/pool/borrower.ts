import { AsyncResource } from 'node:async_hooks';
import type { CallSite } from '../util/call-site.js';
import type { PooledClient } from './pooled-client.js';
import type { Leased } from './pooled-connection.js';
import { Waiter } from './wait-queue.js';

/** Who waits for a connection of his own, as a promise of what is made of it. */
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

interface Releasable {
  release(error?: Error | boolean): void;
}

/** pg-pool's callback: an error, or a lease and what gives it back. */
export type BorrowerCallback<T extends Releasable> = (
  error: Error | undefined,
  lease: T | undefined,
  release: T['release'],
) => void;

/**
 * Who waits for a connection of his own and is called back, in the context in which he asked, later than what serves or
 * refuses him. Without a promise: of many that wait, those take longest to collect.
 */
export class CallbackBorrower<C extends PooledClient, T extends Releasable> extends Waiter<Leased<C>> {
  readonly joinMillis = undefined;
  readonly #callSite: CallSite | undefined;
  readonly #made: (leased: Leased<C>) => T;
  readonly #callback: BorrowerCallback<T>;
  readonly #context = new AsyncResource('nestjs-pg.connect');

  constructor(callSite: CallSite | undefined, made: (leased: Leased<C>) => T, callback: BorrowerCallback<T>) {
    super();
    this.#callSite = callSite;
    this.#made = made;
    this.#callback = callback;
  }

  serve(leased: Leased<C>): void {
    leased.callSite = this.#callSite;
    const lease = this.#made(leased);
    process.nextTick(() => this.#context.runInAsyncScope(callWithLease, undefined, this.#callback, lease));
  }

  refuse(error: Error): void {
    process.nextTick(() => this.#context.runInAsyncScope(this.#callback, undefined, error, undefined, noRelease));
  }
}

export function callWithLease<T extends Releasable>(callback: BorrowerCallback<T>, lease: T): void {
  callback(undefined, lease, (error) => lease.release(error));
}

const noRelease = (): void => undefined;

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
