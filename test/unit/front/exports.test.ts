import { readFile } from 'node:fs/promises';
import ts from 'typescript';
import { expect, it } from 'vitest';
import * as front from 'nestjs-pg';

/** The public API. A name comes in here on purpose, and goes only with a new major version. */
const VALUES = [
  'InjectConnectionFactory',
  'InjectPool',
  'PG_CONNECTION_FACTORY',
  'PG_ERROR_CODES',
  'PG_POOL',
  'PgBatchError',
  'PgConnectError',
  'PgModule',
  'PgModuleError',
  'PgPool',
  'afterCommit',
  'afterRollback',
  'createConnectionFactory',
  'createPool',
  'describeConnection',
  'getConnectionFactoryToken',
  'getPoolToken',
  'parseConnectionString',
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
  'DescribedAttempt',
  'DescribedSetting',
  'DialFailure',
  'DrainReport',
  'FailedAttempt',
  'Holder',
  'LendingPool',
  'Password',
  'Pem',
  'PgClient',
  'PgErrorCode',
  'PgLease',
  'PgModuleOptions',
  'PgOptions',
  'PgOptionsFactory',
  'PgPoolEvents',
  'PgTransaction',
  'PoolCounters',
  'PoolMessages',
  'PoolOptions',
  'PoolReset',
  'PoolStats',
  'RetireCause',
  'RetryOptions',
  'SettingSource',
  'SslMode',
  'SslOptions',
  'TargetSessionAttrs',
  'TlsProtection',
  'TlsVersion',
  'TransactionIsolation',
  'TransactionOptions',
  'TransactionRetry',
  'TransactionWork',
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
