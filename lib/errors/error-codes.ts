/**
 * The closed set of codes that a {@link PgModuleError} carries. A code is part of the public contract: match on it,
 * never on a message.
 */
export const PG_ERROR_CODES = [
  /** A setting is unknown, of the wrong type, out of range, or contradicts another one. */
  'PG_CONFIG_INVALID',
  /** No connection could be opened: every attempt is listed in `attempts`. */
  'PG_CONNECT_FAILED',
  /** A connection was refused by the deadline of its connect phase. */
  'PG_CONNECT_TIMEOUT',
  /** The server wants to authenticate us in a way that `require_auth` or `channel_binding` forbids. */
  'PG_AUTH_REFUSED',
  /** A borrower waited longer than `acquireTimeoutMillis`. */
  'PG_ACQUIRE_TIMEOUT',
  /** More borrowers wait than `maxWaiting` allows. */
  'PG_QUEUE_FULL',
  /** The pool is draining or closed. */
  'PG_POOL_CLOSED',
  /** A lease was used after it had been released. */
  'PG_LEASE_RELEASED',
  /** The connection died under its user. */
  'PG_CONNECTION_LOST',
  /** An AbortSignal fired. */
  'PG_ABORTED',
  /** A statement of a transaction that is over. */
  'PG_TRANSACTION_ENDED',
  /** A statement or an inner transaction beside an inner transaction that is open on the same connection. */
  'PG_TRANSACTION_BUSY',
  /** A transaction's function returned while statements that it had started were still running: rolled back. */
  'PG_TRANSACTION_UNAWAITED',
  /** A transaction's function returned although a statement had failed: the server could only roll back. */
  'PG_TRANSACTION_ABORTED',
  /** `timeoutMillis` of a transaction has passed: rolled back. */
  'PG_TRANSACTION_TIMEOUT',
  /** Propagation `Mandatory` without a transaction. */
  'PG_TRANSACTION_REQUIRED',
  /** Propagation `Never` inside of a transaction, or `connect()` in a test that is rolled back. */
  'PG_TRANSACTION_FORBIDDEN',
  /** The connection was lost while a COMMIT was under way: the transaction may or may not have been committed. */
  'PG_COMMIT_UNKNOWN',
  /** A statement of a batch failed, and with it all of them: `index` says which, `cause` why. */
  'PG_BATCH_FAILED',
  /** A notification's payload or channel that the server would refuse. */
  'PG_NOTIFICATION_INVALID',
  /** A row for COPY that cannot be sent. */
  'PG_COPY_INVALID',
  /** The embedded server of `nestjs-pg/testing` could not be started or has failed. */
  'PG_TEST_SERVER_FAILED',
] as const;

export type PgErrorCode = (typeof PG_ERROR_CODES)[number];
