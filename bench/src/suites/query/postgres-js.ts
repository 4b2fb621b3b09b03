import { peer } from '../../peer.js';
import type { QuerySubject, Row } from './subject.js';

interface Sql {
  (parts: TemplateStringsArray, ...values: readonly unknown[]): Promise<Row[]>;
  unsafe(text: string, values: readonly unknown[], options: { prepare: boolean }): Promise<Row[]>;
  end(): Promise<void>;
}

export async function postgresJs(): Promise<QuerySubject> {
  const { default: postgres } = await peer<{
    default: (url: string, options: { max: number; onnotice: () => void }) => Sql;
  }>('postgres');
  return {
    open: async (connectionString, connections) => {
      const sql = postgres(connectionString, { max: connections, onnotice: () => undefined });
      return {
        run: (text, values) => sql.unsafe(text, values, { prepare: true }),
        point: (id) => sql`SELECT id, balance FROM account WHERE id = ${id}`,
        rows: (first, behind) =>
          sql`SELECT id, name, active, score, total, price, tags, created_at FROM item WHERE id >= ${first} AND id < ${behind}`,
        close: () => sql.end(),
      };
    },
  };
}
