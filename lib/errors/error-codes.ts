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
  /** The embedded server of `nestjs-pg/testing` could not be started or has failed. */
  'PG_TEST_SERVER_FAILED',
] as const;

export type PgErrorCode = (typeof PG_ERROR_CODES)[number];
