import type pg from 'pg';
import { stockPg } from '../../stock-pg.js';
import type { QueryClient, QuerySubject, Row } from './subject.js';

export function openStockPool(connectionString: string, connections: number): pg.Pool {
  const pool = new stockPg.Pool({ connectionString, max: connections });
  pool.on('error', () => undefined);
  return pool;
}

function clientOf(pool: pg.Pool, run: QueryClient['run']): QueryClient {
  return { run, close: () => pool.end() };
}

/** As most write it. */
export const unnamed: QuerySubject = {
  open: async (connectionString, connections) => {
    const pool = openStockPool(connectionString, connections);
    return clientOf(pool, async (text, values) => (await pool.query<Row>(text, values as unknown[])).rows);
  },
};

/** With a name for every text, so that the server plans each once per connection. */
export const named: QuerySubject = {
  open: async (connectionString, connections) => {
    const pool = openStockPool(connectionString, connections);
    const names = new Map<string, string>();
    return clientOf(pool, async (text, values) => {
      let name = names.get(text);
      if (name === undefined) names.set(text, (name = `statement_${names.size}`));
      return (await pool.query<Row>({ name, text, values: values as unknown[] })).rows;
    });
  },
};
