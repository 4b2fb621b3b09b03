import { peer } from '../../peer.js';
import { openStockPool } from './stock-pg.js';
import type { QuerySubject, Row } from './subject.js';

interface Builder {
  select(columns: readonly string[]): Builder;
  where(column: string, operator: string, value: number): Builder;
  execute(): Promise<Row[]>;
}

interface Kysely {
  selectFrom(table: string): Builder;
  executeQuery(query: unknown): Promise<{ rows: Row[] }>;
  destroy(): Promise<void>;
}

interface KyselyPackage {
  readonly Kysely: new (options: { dialect: unknown }) => Kysely;
  readonly PostgresDialect: new (options: { pool: unknown }) => unknown;
  readonly CompiledQuery: { raw(text: string, values: readonly unknown[]): unknown };
}

const ITEM = ['id', 'name', 'active', 'score', 'total', 'price', 'tags', 'created_at'];

export async function kysely(): Promise<QuerySubject> {
  const { Kysely, PostgresDialect, CompiledQuery } = await peer<KyselyPackage>('kysely');
  return {
    open: async (connectionString, connections) => {
      const pool = openStockPool(connectionString, connections);
      const database = new Kysely({ dialect: new PostgresDialect({ pool }) });
      return {
        run: async (text, values) => (await database.executeQuery(CompiledQuery.raw(text, values))).rows,
        point: (id) => database.selectFrom('account').select(['id', 'balance']).where('id', '=', id).execute(),
        rows: (first, behind) =>
          database.selectFrom('item').select(ITEM).where('id', '>=', first).where('id', '<', behind).execute(),
        close: () => database.destroy(),
      };
    },
  };
}
