import { configError } from '../config/config-error.js';
import { assertKnownKeys } from '../config/unknown-option.js';
import { PgPool } from '../pg.pool.js';
import { deferred } from '../util/deferred.js';
import { TestTransaction } from './test-transaction.js';

export interface RollbackOptions {
  /**
   * How long a statement or transaction waits for its turn on the test's connection, in milliseconds, before it fails with
   * `PG_TRANSACTION_BUSY`. Default 4 000: below the usual time of a test.
   */
  patienceMillis?: number;
  /** `pool.connect()` gives connections outside of the test, whose work stays. Default: it is refused. */
  allowConnect?: boolean;
}

/** Both are functions without parameters, to be given to `beforeEach` and `afterEach` as they are. */
export interface TestRollback {
  /** Begins the test's transaction. @throws PgModuleError of `pool.transaction()`; `PG_CONFIG_INVALID` if one is open */
  readonly begin: () => Promise<void>;
  /** Rolls it back, with all that the application has done since. No-op without one. */
  readonly rollback: () => Promise<void>;
}

/** What the test's transaction ends with. */
const END = new Error('the end of the test');

/**
 * Has each test run in a transaction that is rolled back:
 *
 *     const { begin, rollback } = rollbackEachTest(() => app.get(PG_POOL));
 *     beforeEach(begin);
 *     afterEach(rollback);
 *
 * All that the application does in the pool takes part, in whatever context it runs: `pool.query()`, `pool.batch()`,
 * streams, and its own transactions, which become savepoints. Their `afterCommit` hooks run when they end.
 *
 * @param pool the pool, or a function that finds it when a test begins
 */
export function rollbackEachTest(pool: PgPool | (() => PgPool), options: RollbackOptions = {}): TestRollback {
  assertKnownKeys(options, ['patienceMillis', 'allowConnect'], 'options of rollbackEachTest()');
  const { patienceMillis = 4_000, allowConnect = false } = options;
  if (!Number.isInteger(patienceMillis) || patienceMillis < 1) {
    throw configError(`patienceMillis must be a whole number of at least 1; it is ${String(patienceMillis)}.`);
  }
  let end: (() => Promise<void>) | undefined;
  return {
    begin: async () => {
      if (end) throw configError('The test before has not been rolled back: call rollback() after each test.');
      end = await begin(typeof pool === 'function' ? pool() : pool, { patienceMillis, allowConnect });
    },
    rollback: async () => {
      const ending = end;
      end = undefined;
      await ending?.();
    },
  };
}

/** Opens the transaction, and returns what ends it. */
async function begin(pool: PgPool, options: Required<RollbackOptions>): Promise<() => Promise<void>> {
  if (!(pool instanceof PgPool))
    throw configError('rollbackEachTest() takes a PgPool, or a function that returns one.');
  const { promise: finished, resolve: finish } = deferred<void>();
  const { promise: began, resolve, reject } = deferred<void>();
  const over = pool
    .transaction(
      async (root) => {
        pool.pin(new TestTransaction(pool, root, options));
        resolve();
        await finished;
        // As an error of the function's, and not of the application's: it ends what is still under way.
        throw END;
      },
      { retry: false },
    )
    .catch((error: unknown) => {
      if (error === END) return;
      reject(error);
      throw error;
    })
    .finally(() => pool.pin(undefined));
  over.catch(() => undefined);
  await began;
  return () => {
    finish();
    return over;
  };
}
