export { TransactionalAdapterPg, type PgTx, type TransactionalAdapterPgOptions } from './transactional-adapter-pg.js';
