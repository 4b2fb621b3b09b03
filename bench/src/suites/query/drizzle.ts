import { peer } from '../../peer.js';
import { openStockPool } from './stock-pg.js';
import type { QuerySubject, Row } from './subject.js';

interface Column {
  notNull(): Column;
  primaryKey(): Column;
}

interface Core {
  pgTable<C>(name: string, columns: C): C;
  integer(name: string): Column;
  text(name: string): Column;
  boolean(name: string): Column;
  doublePrecision(name: string): Column;
  bigint(name: string, options: { mode: 'number' }): Column;
  numeric(name: string): Column;
  jsonb(name: string): Column;
  timestamp(name: string, options: { withTimezone: true }): Column;
}

interface Operators {
  and(...conditions: unknown[]): unknown;
  eq(column: Column, value: unknown): unknown;
  gte(column: Column, value: unknown): unknown;
  lt(column: Column, value: unknown): unknown;
}

interface Database {
  select(): { from(table: unknown): { where(condition: unknown): Promise<Row[]> } };
}

/** With its query builder. */
export async function drizzle(): Promise<QuerySubject> {
  const { drizzle: over } = await peer<{ drizzle: (options: { client: unknown }) => Database }>(
    'drizzle-orm/node-postgres',
  );
  const core = await peer<Core>('drizzle-orm/pg-core');
  const { and, eq, gte, lt } = await peer<Operators>('drizzle-orm');
  const account = core.pgTable('account', {
    id: core.integer('id').primaryKey(),
    balance: core.integer('balance').notNull(),
  });
  const item = core.pgTable('item', {
    id: core.integer('id').primaryKey(),
    name: core.text('name').notNull(),
    active: core.boolean('active').notNull(),
    score: core.doublePrecision('score').notNull(),
    total: core.bigint('total', { mode: 'number' }).notNull(),
    price: core.numeric('price').notNull(),
    tags: core.jsonb('tags').notNull(),
    created_at: core.timestamp('created_at', { withTimezone: true }).notNull(),
  });
  return {
    open: async (connectionString, connections) => {
      const pool = openStockPool(connectionString, connections);
      const database = over({ client: pool });
      return {
        run: async (text, values) => (await pool.query<Row>(text, values as unknown[])).rows,
        point: (id) => database.select().from(account).where(eq(account.id, id)),
        rows: (first, behind) =>
          database
            .select()
            .from(item)
            .where(and(gte(item.id, first), lt(item.id, behind))),
        close: () => pool.end(),
      };
    },
  };
}
