import { ACCOUNTS } from '../query/database.js';

/** One transaction of three statements: a balance is read and changed, and the change is noted. */
export interface Transfers {
  transfer(account: number, amount: number): Promise<void>;
  /** A balance, by itself: outside of any transaction. */
  read?(account: number): Promise<void>;
  close(): Promise<void>;
}

export type TransactionSubject = (connectionString: string, connections: number) => Promise<Transfers>;

export const LOOK = 'SELECT balance FROM account WHERE id = $1';
export const READ = 'SELECT balance FROM account WHERE id = $1 FOR UPDATE';
export const CHANGE = 'UPDATE account SET balance = balance + $2 WHERE id = $1';
export const NOTE = 'INSERT INTO entry (account_id, amount) VALUES ($1, $2)';
export const STATEMENTS = 3;

/** @throws unless there was such an account */
export function check(rows: readonly unknown[], account: number): void {
  if (rows.length !== 1) throw new Error(`account ${account} of ${ACCOUNTS} was not found`);
}
