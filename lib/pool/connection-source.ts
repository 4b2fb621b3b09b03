import type { PgClient } from '../client/pg-client.js';

/** A connection for one user alone, until it is released. */
export interface BorrowedConnection {
  readonly client: PgClient;
  /** It belongs to a transaction that goes on after the release. */
  readonly isInTransaction: boolean;
  /** `true` or an error closes the connection; in a transaction, that fails the transaction. Once. */
  release(error?: Error | boolean): void;
}

/** Where a stream takes its connection: a pool, or the transaction that is open in the caller's context. */
export interface ConnectionSource {
  /** @throws PgModuleError as `pool.connect()` does; `PG_TRANSACTION_ENDED` in the context of one that is over */
  borrow(signal?: AbortSignal): Promise<BorrowedConnection>;
}
