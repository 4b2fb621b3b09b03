import type { InjectionToken } from '@nestjs/common';
import type { TransactionalAdapter, TransactionalAdapterOptions } from '@nestjs-cls/transactional';
import type { PgPool } from '../pg.pool.js';
import { getPoolToken } from '../pg.tokens.js';
import type { TransactionOptions } from '../transaction/transaction-options.js';
import type { PgTransaction } from '../transaction/transaction.js';

/** What `TransactionHost.tx` is: the transaction, or the pool where there is none. */
export type PgTx = Pick<PgTransaction, 'query' | 'transaction'>;

export interface TransactionalAdapterPgOptions {
  /** Default: the token of the default pool. */
  poolToken?: InjectionToken;
  /** Merged with the options of each transaction. */
  defaultTxOptions?: Partial<TransactionOptions>;
}

type Work = () => Promise<unknown>;
type SetTx = (tx?: PgTx) => void;

/**
 * Plain pg for @nestjs-cls/transactional: `new ClsPluginTransactional({ adapter: new TransactionalAdapterPg() })`. Its
 * transactions are those of `pool.transaction()`: `pool.query()` takes part in them as well, and the whole function runs
 * again after a serialization failure or a deadlock.
 */
export class TransactionalAdapterPg implements TransactionalAdapter<PgPool, PgTx, TransactionOptions> {
  readonly connectionToken: InjectionToken;
  readonly defaultTxOptions?: Partial<TransactionOptions>;

  constructor({ poolToken = getPoolToken(), defaultTxOptions }: TransactionalAdapterPgOptions = {}) {
    this.connectionToken = poolToken;
    if (defaultTxOptions) this.defaultTxOptions = defaultTxOptions;
  }

  readonly optionsFactory = (pool: PgPool): TransactionalAdapterOptions<PgTx, TransactionOptions> => {
    /** Those of which the host of this adapter knows. */
    const known = new WeakSet<PgTransaction>();
    const run = (options: TransactionOptions, work: Work, setTx: SetTx): Promise<unknown> =>
      pool.transaction((tx) => {
        known.add(tx);
        setTx(tx);
        return work();
      }, options);
    /** The host has left a transaction of its own, or wants another one beside it, and pool.query() is still in it. */
    const isLeft = (): boolean => {
      for (let at = pool.currentTransaction; at; at = at.outer) if (known.has(at)) return true;
      return false;
    };
    const outside: PgTx = {
      query: ((...args: Parameters<PgPool['query']>) => pool.outside(() => pool.query(...args))) as PgTx['query'],
      transaction: (work, options) => pool.outside(() => pool.transaction(work, options)),
    };
    return {
      wrapWithTransaction: (options, work, setTx) =>
        isLeft() ? pool.outside(() => run(options, work, setTx)) : run(options, work, setTx),
      wrapWithNestedTransaction: run,
      getFallbackInstance: () => (isLeft() ? outside : pool),
    };
  };
}
