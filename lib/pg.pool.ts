import type { QueryResultRow } from 'pg';
import type { Observable } from 'rxjs';
import type { BorrowedConnection, ConnectionSource } from './pool/connection-source.js';
import { LendingPool, type BorrowOptions, type ConnectCallback, type PgPoolSettings } from './pool/lending-pool.js';
import type { PgLease } from './pool/lease.js';
import type { QueryRunner } from './pool/query-forms.js';
import { rowObservable } from './stream/row-observable.js';
import { rowStatement, type StreamArrayConfig, type StreamConfig, type StreamOptions } from './stream/row-statement.js';
import { PgRowStream } from './stream/row-stream.js';
import { ambient, within } from './transaction/ambient.js';
import { runBatch, runInnerBatch, type BatchResults, type BatchStatement } from './transaction/batch.js';
import { runTransaction, type TransactionPool, type TransactionWork } from './transaction/run-transaction.js';
import type { PinnedPool } from './transaction/pinned-pool.js';
import type { PgTransaction } from './transaction/transaction.js';
import type { TransactionOptions } from './transaction/transaction-options.js';

/**
 * The pool of an application: what {@link LendingPool} lends and runs, with transactions and streams on top. Inside of
 * {@link PgPool.transaction} its `query()` takes part in the transaction, whoever calls it.
 */
export class PgPool extends LendingPool implements ConnectionSource {
  readonly #transactions: TransactionPool;
  #pinned: PinnedPool | undefined;
  /** Connections of the pool, whatever transaction there is around. */
  readonly #own: ConnectionSource = {
    borrow: async (signal) => {
      const client = await this.connect(signal && { signal });
      return { client, isInTransaction: false, release: (error) => client.release(error) };
    },
  };

  /** @internal Use `createPool` or the module. */
  constructor(settings: PgPoolSettings) {
    super(settings);
    this.#transactions = {
      pool: this,
      name: this.name,
      statements: this.statements,
      clock: settings.clock,
      connect: (signal) => this.connect(signal && { signal }),
      observe: (config, tell) => this.observe(config, tell),
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
    const around = this.currentTransaction ?? this.#pinned;
    return around ? around.transaction(work, options) : runTransaction(this.#transactions, work, options);
  }

  /**
   * Runs statements as one transaction in one flight, which is one round trip for all of them: results in their order, all
   * or nothing. Inside of a transaction of this pool all or nothing holds for them by a savepoint.
   *
   * @throws PgBatchError `PG_BATCH_FAILED` with the index of the statement that failed, and its error as `cause`;
   *   PgModuleError `PG_COMMIT_UNKNOWN`, `PG_CONFIG_INVALID`, and those of `connect()`
   */
  batch(statements: readonly BatchStatement[], options?: TransactionOptions): Promise<BatchResults> {
    const around = this.currentTransaction ?? this.#pinned;
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
    return this.#pinned ? this.#pinned.outside(work) : within(this, undefined, work);
  }

  /**
   * The rows of a statement as they arrive, for `for await`: never more than two batches of them are in memory. The
   * statement runs when the first row is asked for, on a connection that is the stream's until its end. Where `stream()` is
   * called in a transaction, it runs there, and other statements may run between its rows.
   *
   * @throws PgModuleError `PG_CONFIG_INVALID`; see {@link PgRowStream.next} for what comes later
   */
  stream<R extends unknown[] = unknown[]>(
    query: StreamArrayConfig,
    values?: readonly unknown[],
    options?: StreamOptions,
  ): PgRowStream<R>;
  stream<R extends QueryResultRow = QueryResultRow>(
    query: string | StreamConfig,
    values?: readonly unknown[],
    options?: StreamOptions,
  ): PgRowStream<R>;
  stream<R>(query: string | StreamConfig, values?: readonly unknown[], options: StreamOptions = {}): PgRowStream<R> {
    return new PgRowStream<R>(this.#sourceHere(), rowStatement(query, values, options));
  }

  /**
   * {@link PgPool.stream} as an Observable. Each subscription runs the statement, in the transaction in which it is made if
   * there is one; unsubscribing ends it.
   *
   * @throws PgModuleError `PG_CONFIG_INVALID`
   */
  rows$<R extends unknown[] = unknown[]>(
    query: StreamArrayConfig,
    values?: readonly unknown[],
    options?: StreamOptions,
  ): Observable<R>;
  rows$<R extends QueryResultRow = QueryResultRow>(
    query: string | StreamConfig,
    values?: readonly unknown[],
    options?: StreamOptions,
  ): Observable<R>;
  rows$<R>(query: string | StreamConfig, values?: readonly unknown[], options: StreamOptions = {}): Observable<R> {
    return rowObservable<R>(() => this.#sourceHere(), rowStatement(query, values, options));
  }

  /** @internal For streams: the connection of the transaction around this call, or one of its own. */
  borrow(signal?: AbortSignal): Promise<BorrowedConnection> {
    return this.#sourceHere().borrow(signal);
  }

  #sourceHere(): ConnectionSource {
    return this.currentTransaction ?? this.#pinned ?? this.#own;
  }

  /** @internal For tests: what runs outside of a transaction runs there, until it is called without. */
  pin(pinned: PinnedPool | undefined): void {
    this.#pinned = pinned;
  }

  override connect(options?: BorrowOptions): Promise<PgLease>;
  override connect(callback: ConnectCallback): void;
  override connect(argument?: BorrowOptions | ConnectCallback): Promise<PgLease> | undefined {
    const refusal = this.#pinned?.connectRefusal;
    if (!refusal) return super.connect(argument as BorrowOptions);
    if (typeof argument !== 'function') return Promise.reject(refusal);
    process.nextTick(argument, refusal, undefined, () => undefined);
    return undefined;
  }

  protected override queryRunner(): QueryRunner {
    return (this.currentTransaction ?? this.#pinned)?.runner ?? super.queryRunner();
  }
}
