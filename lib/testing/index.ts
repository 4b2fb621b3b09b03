export type { PostgresOptions, ServerOptions } from './postgres-options.js';
export type { PostgresServer, StopMode } from './postgres-server.js';
export type { ServerCertificate, ServerSettings } from './server-files.js';
export type { StandbyOptions } from './standby.js';
export { startStandby } from './standby.js';
export { startPostgres } from './start-postgres.js';
export { rollbackEachTest, type RollbackOptions, type TestRollback } from './rollback-each-test.js';
export { createTestDatabase, type TestDatabase, type TestDatabaseOptions } from './test-database.js';
