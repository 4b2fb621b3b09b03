import type { BorrowedConnection, ConnectionSource } from './pool/connection-source.js';
import { LendingPool, type PgPoolSettings } from './pool/lending-pool.js';
import type { QueryRunner } from './pool/query-forms.js';
import { ambient, within } from './transaction/ambient.js';
import { runBatch, runInnerBatch, type BatchResults, type BatchStatement } from './transaction/batch.js';
import { runTransaction, type TransactionPool, type TransactionWork } from './transaction/run-transaction.js';
import type { PgTransaction } from './transaction/transaction.js';
import type { TransactionOptions } from './transaction/transaction-options.js';

/**
 * The pool of an application: what {@link LendingPool} lends and runs, with transactions and streams on top. Inside of
 * {@link PgPool.transaction} its `query()` takes part in the transaction, whoever calls it.
 */
export class PgPool extends LendingPool implements ConnectionSource {
  readonly #transactions: TransactionPool;

  /** @internal Use `createPool` or the module. */
  constructor(settings: PgPoolSettings) {
    super(settings);
    this.#transactions = {
      pool: this,
      name: this.name,
      statements: this.statements,
      clock: settings.clock,
      connect: (signal) => this.connect(signal && { signal }),
      warn: (message) => this.warn(message),
    };
  }

  /**
   * Runs `work` in a transaction: committed when it returns, rolled back when it throws, with the very error. BEGIN and
   * the settings travel with the first statement. After a serialization failure or a deadlock the whole function runs
   * again (`retry`). Inside of a transaction of this pool it is a savepoint of that one.
   *
   * Inside of `work`, and of all that it calls and awaits, `pool.query()` takes part in the transaction. `pool.connect()`
   * stays a connection of its own.
   *
   * @throws what `work` throws; pg.DatabaseError of BEGIN and COMMIT; PgModuleError `PG_COMMIT_UNKNOWN`,
   *   `PG_TRANSACTION_UNAWAITED`, `PG_TRANSACTION_ABORTED`, `PG_TRANSACTION_TIMEOUT`, `PG_ABORTED`, `PG_CONFIG_INVALID`,
   *   and those of `connect()`
   */
  transaction<T>(work: TransactionWork<T>, options?: TransactionOptions): Promise<T> {
    const around = this.currentTransaction;
    return around ? around.transaction(work, options) : runTransaction(this.#transactions, work, options);
  }

  /**
   * Runs statements as one transaction in one flight, which is one round trip for all of them: results in their order, all
   * or nothing. Inside of a transaction of this pool all or nothing holds for them by a savepoint.
   *
   * @throws PgBatchError `PG_BATCH_FAILED` with the index of the statement that failed, and its error as `cause`;
   *   PgModuleError `PG_COMMIT_UNKNOWN`, `PG_CONFIG_INVALID`, and those of `connect()`
   */
  async batch(statements: readonly BatchStatement[], options?: TransactionOptions): Promise<BatchResults> {
    const around = this.currentTransaction;
    return around
      ? runInnerBatch(this.#transactions, around, statements, options)
      : runBatch(this.#transactions, statements, options);
  }

  /** The transaction of this pool's in which this code runs. It may be over: see {@link PgTransaction.isOpen}. */
  get currentTransaction(): PgTransaction | undefined {
    return ambient(this) as PgTransaction | undefined;
  }

  /** Runs `work` outside of the transaction around it, as if there were none: what it starts may outlive it. */
  outside<T>(work: () => T): T {
    return within(this, undefined, work);
  }

  /** @internal For streams: the connection of the transaction around this call, or one of its own. */
  async borrow(signal?: AbortSignal): Promise<BorrowedConnection> {
    const around = this.currentTransaction;
    if (around) return around.borrow(signal);
    const client = await this.connect(signal && { signal });
    return { client, isInTransaction: false, release: (error) => client.release(error) };
  }

  protected override queryRunner(): QueryRunner {
    return this.currentTransaction?.runner ?? super.queryRunner();
  }
}
