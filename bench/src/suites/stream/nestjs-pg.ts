import { copyFrom, createPool, type PgPool } from 'nestjs-pg';
import { COLUMNS, TARGET } from './database.js';
import type { Row, StreamClient, StreamSubject } from './subject.js';

function open(connectionString: string, read: (pool: PgPool) => StreamClient['read']): StreamClient {
  const pool = createPool({ connectionString });
  return {
    read: read(pool),
    load: async (items) => void (await copyFrom(pool, { table: TARGET, columns: [...COLUMNS] }, items)),
    close: () => pool.end(),
  };
}

export const rowByRow: StreamSubject = (connectionString) =>
  Promise.resolve(
    open(connectionString, (pool) => async (text, see) => {
      for await (const row of pool.stream<Row & Record<string, unknown>>(text)) see(row);
    }),
  );

export const inBatches: StreamSubject = (connectionString) =>
  Promise.resolve(
    open(connectionString, (pool) => async (text, see) => {
      for await (const rows of pool.stream<Row & Record<string, unknown>>(text).batches())
        for (const row of rows) see(row);
    }),
  );
