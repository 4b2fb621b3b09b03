import { createPool } from 'nestjs-pg';
import { CHANGE, check, LOOK, NOTE, READ, type TransactionSubject } from './subject.js';

/** A function that runs one statement after the other. */
export const interactive: TransactionSubject = async (connectionString, connections) => {
  const pool = await Promise.resolve(createPool({ connectionString, pool: { max: connections } }));
  return {
    transfer: (account, amount) =>
      pool.transaction(async () => {
        check((await pool.query(READ, [account])).rows, account);
        await pool.query(CHANGE, [account, amount]);
        await pool.query(NOTE, [account, amount]);
      }),
    read: async (account) => check((await pool.query(LOOK, [account])).rows, account),
    close: () => pool.end(),
  };
};

/** Statements that are known beforehand. */
export const batch: TransactionSubject = async (connectionString, connections) => {
  const pool = await Promise.resolve(createPool({ connectionString, pool: { max: connections } }));
  return {
    transfer: async (account, amount) => {
      const [read] = await pool.batch([
        { text: READ, values: [account] },
        { text: CHANGE, values: [account, amount] },
        { text: NOTE, values: [account, amount] },
      ]);
      check(read?.rows ?? [], account);
    },
    close: () => pool.end(),
  };
};

/** From the first transaction of a process on, Node keeps track of what is in one. */
export const tracked: TransactionSubject = async (connectionString, connections) => {
  const transfers = await interactive(connectionString, connections);
  await transfers.transfer(1, 0);
  return transfers;
};
