export { PgModule, type PgOptionsFactory } from './pg.module.js';
export type { PgModuleOptions, PgOptions, RetryOptions } from './pg.options.js';
export { getConnectionFactoryToken, getPoolToken, PG_CONNECTION_FACTORY, PG_POOL } from './pg.tokens.js';
export { InjectConnectionFactory, InjectPool } from './pg.decorators.js';
export { Transactional, type TransactionalDecorator } from './pg.transactional.js';
export type { TransactionalOptions } from './pg.transaction-work.js';
export {
  TransactionInterceptor,
  transactionInterceptor,
  type TransactionInterceptorOptions,
} from './pg.transaction-interceptor.js';
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
export type { PropagationOptions, TransactionPropagation } from './transaction/propagation.js';
export type { TransactionWork } from './transaction/run-transaction.js';
export type { PgTransaction } from './transaction/transaction.js';
export type { TransactionIsolation, TransactionOptions, TransactionRetry } from './transaction/transaction-options.js';
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

export { createNotifications } from './create-notifications.js';
export { InjectNotifications } from './pg.decorators.js';
export { OnNotification, type OnNotificationDecorator, type OnNotificationOptions } from './pg.notifications.js';
export { getNotificationsToken } from './pg.tokens.js';
export type { PgGap, PgListening, PgNotification, PgNotificationEvent } from './stream/notification.js';
export { PgNotifications } from './stream/notifications.js';
export type { PgRowStream } from './stream/row-stream.js';
export type { StreamArrayConfig, StreamConfig, StreamOptions } from './stream/row-statement.js';
export type { CopyBytes } from './stream/copy-bytes.js';
export type { CopySource } from './stream/copy-feed.js';
export type { CopyFormat, CopyFormatOptions } from './stream/copy-format.js';
export { copyFrom, type CopyResult } from './stream/copy-from.js';
export type { CopyBytesFromOptions, CopyProgress, CopyRowsFromOptions } from './stream/copy-from-options.js';
export type { CopyRow } from './stream/copy-rows.js';
export type { CopyTable } from './stream/copy-table.js';
export { copyTo, type CopyQueryToOptions, type CopyTableToOptions } from './stream/copy-to.js';
