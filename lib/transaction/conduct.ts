import { PgModuleError } from '../errors/pg-module.error.js';
import { withSignal } from '../util/deadline.js';

/** A transaction, outer or inner, as far as its course goes. */
export interface Conducted {
  /** @throws PgModuleError `PG_TRANSACTION_UNAWAITED` */
  assertQuiet(): void;
  /** Takes no more statements. */
  end(reason: PgModuleError | string): void;
}

/** How a transaction ends. */
export interface Ending {
  /** Makes what was done last; what it throws means that it does not. */
  complete(): Promise<void>;
  /** Never rejects. */
  rollBack(): Promise<void>;
  /** It is over, either way. */
  over?(): void;
}

/** Runs the work of a transaction and ends it: completed if the work returns, rolled back if anything fails. */
export async function conduct<T>(
  transaction: Conducted,
  work: () => Promise<T> | T,
  signal: AbortSignal | undefined,
  ending: Ending,
): Promise<T> {
  try {
    const working = work();
    const result = await (signal ? withSignal(Promise.resolve(working), signal) : working);
    transaction.assertQuiet();
    await ending.complete();
    transaction.end('it has been completed');
    return result;
  } catch (error) {
    const isReason = error instanceof PgModuleError && signal?.aborted && error === signal.reason;
    transaction.end(isReason ? error : 'it was rolled back');
    await ending.rollBack();
    throw error;
  } finally {
    ending.over?.();
  }
}
