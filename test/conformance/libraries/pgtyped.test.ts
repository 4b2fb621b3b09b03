import { PreparedQuery, sql } from '@pgtyped/runtime';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { beforeAll, describe, expect, it } from 'vitest';
import { adminQuery } from '../../support/postgres.js';
import {
  expectNoReconnects,
  expectNothingLeft,
  expectWithinMax,
  killNextBorrowed,
  openPool,
  server,
} from './pool-under-test.js';

interface Item {
  id: number;
  name: string;
}

const applicationName = sql<{ params: undefined; result: { name: string } }>`
  SELECT current_setting('application_name') AS name`;
const insertItems = sql<{ params: { items: Item[] }; result: { id: number } }>`
  INSERT INTO item (id, name) VALUES $$items(id!, name!) RETURNING id`;
const selectItems = sql<{ params: { ids: number[] }; result: Item }>`
  SELECT id, name AS "name!" FROM item WHERE id IN $$ids ORDER BY id`;
const numbers = sql<{ params: { last: number }; result: { n: number } }>`
  SELECT n FROM generate_series(1, $last!::int) n`;
const divide = sql<{ params: { by: number }; result: { quotient: number } }>`SELECT 1 / $by!::int AS quotient`;

/** What PgTyped's compiler makes of a statement in a .sql file. */
const countItems = new PreparedQuery<{ least: number }, { count: number }>({
  usedParamSet: { least: true },
  params: [{ name: 'least', required: true, transform: { type: 'scalar' as never }, locs: [{ a: 53, b: 59 }] }],
  statement: 'SELECT count(*)::int AS count FROM item WHERE id >= (:least!)',
});

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL)');
});

describe('PgTyped', () => {
  it('runs its statements on the pool, and on a lease', async () => {
    const pool = openPool('pgtyped');
    expect(await applicationName.run(undefined, pool)).toEqual([{ name: pool.name }]);
    const lease = await pool.connect();
    expect(await applicationName.run(undefined, lease)).toEqual([{ name: pool.name }]);
    lease.release();
    await expectNothingLeft(pool);
  });

  it('spreads its parameters, and counts rows', async () => {
    const pool = openPool('pgtyped');
    const items = [1, 2, 3].map((id) => ({ id, name: `item ${id}` }));
    expect(await insertItems.run({ items }, pool)).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }]);
    expect(await selectItems.run({ ids: [3, 2] }, pool)).toEqual([items[1], items[2]]);
    expect(await countItems.runWithCounts({ least: 2 }, pool)).toEqual({ result: [{ count: 2 }], rowCount: 1 });
    await expectNothingLeft(pool);
  });

  it("rejects with the server's errors, and they cost no connection", async () => {
    const pool = openPool('pgtyped');
    const error: unknown = await divide.run({ by: 0 }, pool).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    await expectNoReconnects(pool, () => divide.run({ by: 0 }, pool), { code: '22012' });
    await expectNothingLeft(pool);
  });

  it('joins the transaction of the lease it is given', async () => {
    const pool = openPool('pgtyped', { pool: { max: 1 } });
    const run = (work: 'COMMIT' | 'ROLLBACK', id: number): Promise<void> =>
      pool.withConnection(async (lease) => {
        await lease.query('BEGIN');
        await insertItems.run({ items: [{ id, name: work }] }, lease);
        await lease.query(work);
      });
    await run('COMMIT', 11);
    await run('ROLLBACK', 12);
    expect(await selectItems.run({ ids: [11, 12] }, pool)).toEqual([{ id: 11, name: 'COMMIT' }]);
    // An error in the middle, and nobody to roll back.
    const abandoned = pool.withConnection(async (lease) => {
      await lease.query('BEGIN');
      await insertItems.run({ items: [{ id: 13, name: 'abandoned' }] }, lease);
      await divide.run({ by: 0 }, lease);
    });
    await expect(abandoned).rejects.toMatchObject({ code: '22012' });
    expect(await selectItems.run({ ids: [13] }, pool)).toEqual([]);
    expect(pool.stats()).toMatchObject({ connects: 1, resets: 1 });
    await expectNothingLeft(pool);
  });

  it('runs 50 statements at once on 3 connections', async () => {
    const pool = openPool('pgtyped', { pool: { max: 3 } });
    await expectWithinMax(pool, 50, async (index) => {
      expect(await divide.run({ by: index + 1 }, pool)).toEqual([{ quotient: index === 0 ? 1 : 0 }]);
    });
    await expectNothingLeft(pool);
  });

  it('reads a cursor on a lease to its end, in part, and up to an error', async () => {
    const pool = openPool('pgtyped', { pool: { max: 1 } });
    const lease = await pool.connect();
    const connection = {
      query: (text: string, values: unknown[]) => lease.query(text, values) as never,
      stream: (text: string, values: unknown[]) => lease.query(new Cursor<Item>(text, values)),
    };
    const whole = numbers.stream({ last: 3 }, connection);
    expect(await whole.read(5)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    await whole.close();
    const part = numbers.stream({ last: 1_000_000 }, connection);
    expect(await part.read(2)).toEqual([{ n: 1 }, { n: 2 }]);
    await part.close();
    const failing = divide.stream({ by: 0 }, connection);
    await expect(failing.read(1)).rejects.toMatchObject({ code: '22012' });
    await failing.close();
    expect(await numbers.run({ last: 1 }, lease)).toEqual([{ n: 1 }]);
    lease.release();
    expect(pool.stats().connects).toBe(1);
    await expectNothingLeft(pool);
  });

  it('hears of a lost connection, and the next statement has another', async () => {
    const pool = openPool('pgtyped', { pool: { max: 1 } });
    killNextBorrowed(pool);
    await expect(divide.run({ by: 1 }, pool)).rejects.toThrow();
    expect(await divide.run({ by: 1 }, pool)).toEqual([{ quotient: 1 }]);
    await expectNothingLeft(pool);
  });
});
