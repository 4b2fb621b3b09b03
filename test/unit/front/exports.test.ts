import { readFile } from 'node:fs/promises';
import ts from 'typescript';
import { expect, it } from 'vitest';
import * as front from 'nestjs-pg';

/** The public API. A name comes in here on purpose, and goes only with a new major version. */
const VALUES = [
  'InjectConnectionFactory',
  'InjectNotifications',
  'InjectPool',
  'OnNotification',
  'PG_CONNECTION_FACTORY',
  'PG_ERROR_CODES',
  'PG_POOL',
  'PgBatchError',
  'PgConnectError',
  'PgModule',
  'PgModuleError',
  'PgNotifications',
  'PgPool',
  'TransactionInterceptor',
  'Transactional',
  'afterCommit',
  'afterRollback',
  'copyFrom',
  'copyTo',
  'createConnectionFactory',
  'createNotifications',
  'createPool',
  'describeConnection',
  'getConnectionFactoryToken',
  'getNotificationsToken',
  'getPoolToken',
  'parseConnectionString',
  'transactionInterceptor',
];

const TYPES = [
  'BatchResults',
  'BatchStatement',
  'BorrowOptions',
  'BorrowedConnection',
  'ConnectOptions',
  'ConnectPhase',
  'ConnectionDescription',
  'ConnectionFactory',
  'ConnectionFactoryHook',
  'ConnectionSecurity',
  'ConnectionSettings',
  'ConnectionSource',
  'CopyBytes',
  'CopyBytesFromOptions',
  'CopyFormat',
  'CopyFormatOptions',
  'CopyProgress',
  'CopyQueryToOptions',
  'CopyResult',
  'CopyRow',
  'CopyRowsFromOptions',
  'CopySource',
  'CopyTable',
  'CopyTableToOptions',
  'DescribedAttempt',
  'DescribedSetting',
  'DialFailure',
  'DrainReport',
  'FailedAttempt',
  'Holder',
  'LendingPool',
  'OnNotificationDecorator',
  'OnNotificationOptions',
  'Password',
  'Pem',
  'PgClient',
  'PgErrorCode',
  'PgGap',
  'PgLease',
  'PgListening',
  'PgModuleOptions',
  'PgNotification',
  'PgNotificationEvent',
  'PgOptions',
  'PgOptionsFactory',
  'PgPoolEvents',
  'PgRowStream',
  'PgTransaction',
  'PoolCounters',
  'PoolMessages',
  'PoolOptions',
  'PoolReset',
  'PoolStats',
  'PropagationOptions',
  'RetireCause',
  'RetryOptions',
  'SettingSource',
  'SslMode',
  'SslOptions',
  'StreamArrayConfig',
  'StreamConfig',
  'StreamOptions',
  'TargetSessionAttrs',
  'TlsProtection',
  'TlsVersion',
  'TransactionInterceptorOptions',
  'TransactionIsolation',
  'TransactionOptions',
  'TransactionPropagation',
  'TransactionRetry',
  'TransactionWork',
  'TransactionalDecorator',
  'TransactionalOptions',
];

it('the values that the package exports are these', () => {
  expect(Object.keys(front).sort()).toEqual(VALUES);
});

it('the names that the package exports are these, and each is named', async () => {
  const path = new URL('../../../lib/index.ts', import.meta.url);
  const source = ts.createSourceFile('index.ts', await readFile(path, 'utf8'), ts.ScriptTarget.Latest);
  const names = source.statements.flatMap((statement) => {
    if (!ts.isExportDeclaration(statement) || !statement.exportClause || !ts.isNamedExports(statement.exportClause)) {
      throw new Error(`lib/index.ts holds nothing but lists of names: ${statement.getText(source)}`);
    }
    return statement.exportClause.elements.map((element) => element.name.text);
  });

  expect(names.sort()).toEqual([...VALUES, ...TYPES].sort());
});
