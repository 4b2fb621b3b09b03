import { openStockPool } from '../query/stock-pg.js';
import { CHANGE, check, LOOK, NOTE, READ, type TransactionSubject } from './subject.js';

/** As pg's documentation writes it. */
export const byHand: TransactionSubject = async (connectionString, connections) => {
  const pool = await Promise.resolve(openStockPool(connectionString, connections));
  return {
    transfer: async (account, amount) => {
      const client = await pool.connect();
      try {
        await client.query('BEGIN');
        check((await client.query(READ, [account])).rows, account);
        await client.query(CHANGE, [account, amount]);
        await client.query(NOTE, [account, amount]);
        await client.query('COMMIT');
      } catch (error) {
        await client.query('ROLLBACK');
        throw error;
      } finally {
        client.release();
      }
    },
    read: async (account) => check((await pool.query(LOOK, [account])).rows, account),
    close: () => pool.end(),
  };
};
