import { isObservable, Observable, type Subscription } from 'rxjs';
import { configError } from './config/config-error.js';
import { kindOf } from './config/unknown-option.js';
import { Propagation, type PropagatingPool, type PropagationOptions } from './transaction/propagation.js';

export interface TransactionalOptions extends PropagationOptions {
  /** The pool's name; default: the default pool. */
  pool?: string;
}

/** Work that was declared to be transactional: what to do with the transaction around it, and how messages call it. */
export interface DeclaredWork {
  readonly propagation: Propagation;
  readonly what: string;
}

/** @throws PgModuleError `PG_CONFIG_INVALID` */
export function propagationOf(options: TransactionalOptions, where: string): Propagation {
  const { pool, ...rest } = options;
  if (pool !== undefined && (typeof pool !== 'string' || pool === '')) {
    throw configError(`${where}: pool must be the name of a pool; it is ${kindOf(pool)}.`);
  }
  return new Propagation(rest);
}

/** Runs work that ends with the promise that it returns. */
export async function settled(
  pool: PropagatingPool,
  { propagation, what }: DeclaredWork,
  work: () => unknown,
): Promise<unknown> {
  return propagation.in(pool, what).run(async () => {
    const result = await work();
    if (isObservable(result)) {
      throw configError(
        `${what} returned an Observable, which would be subscribed to after its transaction. Write the method without ` +
          'async and with its return type, Observable<...>, which is read with emitDecoratorMetadata.',
      );
    }
    return result;
  });
}

/**
 * Runs work that ends when the Observable that it returns does: with a transaction for each subscription. Values are
 * delivered after the COMMIT, so none is seen that is not true; whoever unsubscribes before it rolls back. Work that
 * takes part in somebody else's transaction delivers values as they come.
 */
export function observed(
  pool: () => PropagatingPool,
  { propagation, what }: DeclaredWork,
  work: () => Observable<unknown>,
): Observable<unknown> {
  return new Observable((subscriber) => {
    const run = async (): Promise<void> => {
      const participation = propagation.in(pool(), what);
      const values = await participation.run(() => {
        const kept: unknown[] = [];
        const deliver = (value: unknown): void => {
          if (participation.isOwn) kept.push(value);
          else subscriber.next(value);
        };
        return untilComplete(work, deliver, subscriber).then(() => kept);
      });
      for (const value of values) subscriber.next(value);
    };
    run().then(
      () => subscriber.complete(),
      (error: unknown) => subscriber.error(error),
    );
  });
}

/** Subscribes, and resolves on completion; rejects with the Observable's error, and when `outer` leaves before. */
function untilComplete(
  work: () => Observable<unknown>,
  next: (value: unknown) => void,
  outer: Subscription,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const left = (): void => reject(new Error('Nobody is subscribed any more.'));
    if (outer.closed) {
      left();
      return;
    }
    outer.add(work().subscribe({ next, error: reject, complete: resolve }));
    outer.add(left);
  });
}
