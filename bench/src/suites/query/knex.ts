import { peer } from '../../peer.js';
import type { QuerySubject, Row } from './subject.js';

interface Builder extends PromiseLike<Row[]> {
  select(...columns: string[]): Builder;
  where(column: string, operator: string, value: number): Builder;
}

interface Knex {
  (table: string): Builder;
  raw(text: string, values: readonly unknown[]): PromiseLike<{ rows: Row[] }>;
  destroy(): Promise<void>;
}

interface KnexOptions {
  client: 'pg';
  connection: { connectionString: string };
  pool: { min: number; max: number };
}

const ITEM = ['id', 'name', 'active', 'score', 'total', 'price', 'tags', 'created_at'];

/** With its query builder. */
export async function knex(): Promise<QuerySubject> {
  const { default: create } = await peer<{ default: (options: KnexOptions) => Knex }>('knex');
  return {
    open: async (connectionString, connections) => {
      const database = create({
        client: 'pg',
        connection: { connectionString },
        pool: { min: 0, max: connections },
      });
      return {
        run: async (text, values) => (await database.raw(text.replaceAll(/\$\d+/g, '?'), values)).rows,
        point: async (id) => database('account').select('id', 'balance').where('id', '=', id),
        rows: async (first, behind) =>
          database('item')
            .select(...ITEM)
            .where('id', '>=', first)
            .where('id', '<', behind),
        close: () => database.destroy(),
      };
    },
  };
}
