import { PreparedQuery } from '@pgtyped/runtime';
import { drizzle } from 'drizzle-orm/node-postgres';
import { integer, pgTable } from 'drizzle-orm/pg-core';
import { Kysely, PostgresDialect } from 'kysely';
import { describe, expect, it } from 'vitest';
import type { PgPool } from 'nestjs-pg';
import { expectNothingLeft, failureOf, insert, items, openPool } from './fixture.js';

const mine = new Error('mine');

/** What is in the table when a transaction around `work` was rolled back, and when it was committed. */
async function fates(work: (pool: PgPool) => Promise<unknown>): Promise<{ rolledBack: number[]; committed: number[] }> {
  const pool = openPool('libraries', { pool: { max: 3 } });
  await pool.query('TRUNCATE item');
  const error = await failureOf(
    pool.transaction(async () => {
      await pool.query(insert(1));
      await work(pool);
      throw mine;
    }),
  );
  expect(error).toBe(mine);
  const rolledBack = await items();
  await pool.query('TRUNCATE item');
  await pool.transaction(async () => {
    await pool.query(insert(1));
    await work(pool);
  });
  const committed = await items();
  await expectNothingLeft(pool);
  return { rolledBack, committed };
}

const JOINS = { rolledBack: [], committed: [1, 2] };
const INDEPENDENT = { rolledBack: [2], committed: [1, 2] };

describe('Drizzle', () => {
  const item = pgTable('item', { id: integer().primaryKey() });

  it('takes part with its queries, which go through pool.query()', async () => {
    expect(await fates((pool) => drizzle({ client: pool }).insert(item).values({ id: 2 }))).toEqual(JOINS);
    const seen: unknown[] = [];
    await fates(async (pool) => seen.push(await drizzle(pool).select({ id: item.id }).from(item)));
    expect(seen).toEqual([[{ id: 1 }], [{ id: 1 }]]);
  });

  it('goes on after a query of its own has failed, if that was in an inner transaction', async () => {
    const work = async (pool: PgPool): Promise<void> => {
      const db = drizzle(pool);
      await failureOf(pool.transaction(() => db.insert(item).values([{ id: 2 }, { id: 2 }])));
      await db.insert(item).values({ id: 2 });
    };
    expect(await fates(work)).toEqual(JOINS);
  });

  it('stays independent with db.transaction(), which takes a connection by pool.connect()', async () => {
    const work = (pool: PgPool): Promise<unknown> =>
      drizzle(pool).transaction((transaction) => transaction.insert(item).values({ id: 2 }));
    expect(await fates(work)).toEqual(INDEPENDENT);
  });
});

describe('PgTyped', () => {
  it('takes part with all its queries, which are given the pool', async () => {
    const put = new PreparedQuery<{ id: number }, { id: number }>({
      usedParamSet: { id: true },
      params: [
        {
          name: 'id',
          required: true,
          transform: { type: 'scalar' },
          locs: [{ a: 30, b: 33 }],
        },
      ],
      statement: 'INSERT INTO item (id) VALUES (:id!) RETURNING id',
    } as unknown as ConstructorParameters<typeof PreparedQuery>[0]);
    expect(await fates((pool) => put.run({ id: 2 }, pool))).toEqual(JOINS);
  });
});

describe('Kysely', () => {
  interface Database {
    item: { id: number };
  }
  const on = (pool: PgPool): Kysely<Database> => new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });

  it('stays independent with its own dialect, which takes a connection for each query by pool.connect()', async () => {
    expect(await fates((pool) => on(pool).insertInto('item').values({ id: 2 }).execute())).toEqual(INDEPENDENT);
    const work = (pool: PgPool): Promise<unknown> =>
      on(pool)
        .transaction()
        .execute((transaction) => transaction.insertInto('item').values({ id: 2 }).execute());
    expect(await fates(work)).toEqual(INDEPENDENT);
  });

  it('takes part where its compiled query is given to pool.query()', async () => {
    const work = (pool: PgPool): Promise<unknown> => {
      const { sql, parameters } = on(pool).insertInto('item').values({ id: 2 }).compile();
      return pool.query(sql, [...parameters]);
    };
    expect(await fates(work)).toEqual(JOINS);
  });
});
