import { peer } from '../../peer.js';
import { check, type TransactionSubject } from './subject.js';

type Query = Promise<readonly unknown[]>;

interface Sql {
  (parts: TemplateStringsArray, ...values: readonly unknown[]): Query;
  begin<T>(work: (sql: Sql) => T): Promise<Awaited<T>>;
  end(): Promise<void>;
}

type Postgres = (url: string, options: { max: number; onnotice: () => void }) => Sql;

async function open(connectionString: string, connections: number): Promise<Sql> {
  const { default: postgres } = await peer<{ default: Postgres }>('postgres');
  return postgres(connectionString, { max: connections, onnotice: () => undefined });
}

export const begin: TransactionSubject = async (connectionString, connections) => {
  const sql = await open(connectionString, connections);
  return {
    transfer: (account, amount) =>
      sql.begin(async (own) => {
        check(await own`SELECT balance FROM account WHERE id = ${account} FOR UPDATE`, account);
        await own`UPDATE account SET balance = balance + ${amount} WHERE id = ${account}`;
        await own`INSERT INTO entry (account_id, amount) VALUES (${account}, ${amount})`;
      }),
    close: () => sql.end(),
  };
};

/** Its form for statements that are known beforehand. */
export const array: TransactionSubject = async (connectionString, connections) => {
  const sql = await open(connectionString, connections);
  return {
    transfer: async (account, amount) => {
      const results = await sql.begin((own) =>
        Promise.all([
          own`SELECT balance FROM account WHERE id = ${account} FOR UPDATE`,
          own`UPDATE account SET balance = balance + ${amount} WHERE id = ${account}`,
          own`INSERT INTO entry (account_id, amount) VALUES (${account}, ${amount})`,
        ]),
      );
      check(results[0], account);
    },
    close: () => sql.end(),
  };
};
