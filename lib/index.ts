export { PgModule, type PgOptionsFactory } from './pg.module.js';
export type { PgModuleOptions, PgOptions, RetryOptions } from './pg.options.js';
export { getConnectionFactoryToken, getPoolToken, PG_CONNECTION_FACTORY, PG_POOL } from './pg.tokens.js';
export { InjectConnectionFactory, InjectPool } from './pg.decorators.js';
export { createConnectionFactory, createPool } from './create-pool.js';
export {
  describeConnection,
  type ConnectionDescription,
  type DescribedAttempt,
  type DescribedSetting,
} from './describe-connection.js';

export { PgPool } from './pg.pool.js';
export type { BorrowOptions, LendingPool, PgPoolEvents } from './pool/lending-pool.js';
export { afterCommit, afterRollback } from './transaction/after.js';
export type { BatchResults, BatchStatement } from './transaction/batch.js';
export { PgBatchError } from './transaction/transaction-errors.js';
export type { TransactionWork } from './transaction/run-transaction.js';
export type { PgTransaction } from './transaction/transaction.js';
export type {
  TransactionIsolation,
  TransactionOptions,
  TransactionRetry,
} from './transaction/transaction-options.js';
export type { BorrowedConnection, ConnectionSource } from './pool/connection-source.js';
export type { PoolMessages } from './pool/channels.js';
export type { DialFailure } from './pool/dialler.js';
export type { PoolOptions, PoolReset } from './pool/pool-options.js';
export type { DrainReport } from './pool/engine.js';
export type { Holder } from './pool/pool-errors.js';
export type { PoolCounters, PoolStats } from './pool/pool-stats.js';
export type { RetireCause } from './pool/pooled-connection.js';
export type { PgLease } from './pool/lease.js';

export type { PgClient, ConnectionSecurity } from './client/pg-client.js';
export type { ConnectionFactory, ConnectionFactoryHook, ConnectOptions } from './connect/connection-factory.js';

export { parseConnectionString } from './config/connection-string.js';
export type { ConnectionSettings, Pem, SslOptions } from './config/settings.js';
export type { Password, SettingSource, SslMode, TargetSessionAttrs, TlsVersion } from './config/resolved-config.js';

export { PgModuleError } from './errors/pg-module.error.js';
export { PG_ERROR_CODES, type PgErrorCode } from './errors/error-codes.js';
export type { TlsProtection } from './connect/protection.js';
export { PgConnectError, type ConnectPhase, type FailedAttempt } from './connect/connect.error.js';
