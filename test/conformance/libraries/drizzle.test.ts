import { DrizzleQueryError, eq, gt, sql } from 'drizzle-orm';
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres';
import { integer, pgTable, text } from 'drizzle-orm/pg-core';
import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { adminQuery } from '../../support/postgres.js';
import {
  expectAllIdle,
  expectNoReconnects,
  expectNoSessions,
  expectNothingLeft,
  expectWithinMax,
  killBackend,
  killNextBorrowed,
  openPool,
  server,
} from './pool-under-test.js';

const item = pgTable('item', { id: integer().primaryKey(), name: text().notNull() });

/** The database, or a transaction on it. */
type Queryable = Pick<NodePgDatabase, 'insert' | 'execute'>;

const insert = (on: Queryable, id: number): PromiseLike<unknown> =>
  on.insert(item).values({ id, name: 'in transaction' });

async function idsOf(db: NodePgDatabase): Promise<number[]> {
  const rows = await db.select({ id: item.id }).from(item).where(gt(item.id, 0)).orderBy(item.id);
  return rows.map(({ id }) => id);
}

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL)');
});

describe('Drizzle', () => {
  it('takes the pool in each way that it takes one, and for a pool', async () => {
    const pool = openPool('drizzle');
    for (const db of [drizzle(pool), drizzle({ client: pool })]) {
      const { rows } = await db.execute(sql`SELECT current_setting('application_name') AS name`);
      expect(rows).toEqual([{ name: pool.name }]);
      expect(db.$client).toBe(pool);
      expect(await db.transaction(async () => pool.stats().leased)).toBe(1);
    }
    // Where there are two copies of pg, the name of the class has to do.
    expect(pool.constructor.name).toContain('Pool');
    await expectNothingLeft(pool);
  });

  it('takes a lease for a client, whose transactions are on that lease', async () => {
    const pool = openPool('drizzle', { pool: { max: 1 } });
    const lease = await pool.connect();
    const db = drizzle(lease);
    expect(await db.transaction(async () => pool.stats())).toMatchObject({ leased: 1, acquires: 1 });
    expect(lease.isReleased).toBe(false);
    lease.release();
    await expectNothingLeft(pool);
  });

  it('writes and reads by its schema, with its parsers', async () => {
    const pool = openPool('drizzle');
    const db = drizzle({ client: pool, schema: { item } });
    const returned = await db.insert(item).values({ id: -1, name: 'one' }).returning();
    expect(returned).toEqual([{ id: -1, name: 'one' }]);
    expect(await db.query.item.findFirst({ where: eq(item.id, -1) })).toEqual({ id: -1, name: 'one' });
    const byName = db
      .select()
      .from(item)
      .where(eq(item.id, sql.placeholder('id')))
      .prepare('item_by_id');
    expect(await byName.execute({ id: -1 })).toEqual([{ id: -1, name: 'one' }]);
    expect(await byName.execute({ id: 404 })).toEqual([]);
    const { rows } = await db.execute<{ at: unknown }>(sql`SELECT '2000-01-01'::timestamptz AS at`);
    expect(rows[0]?.at).toBeTypeOf('string');
    // Its parsers are of its statements alone.
    expect((await pool.query<{ at: Date }>("SELECT '2000-01-01'::timestamptz AS at")).rows[0]?.at).toBeInstanceOf(Date);
    expect(pool.stats().connects).toBe(1);
    await expectNothingLeft(pool);
  });

  it("wraps the server's errors, and they cost no connection", async () => {
    const pool = openPool('drizzle');
    const db = drizzle(pool);
    await insert(db, -2);
    const error: unknown = await insert(db, -2).then(undefined, (reason: unknown) => reason);
    expect(error).toBeInstanceOf(DrizzleQueryError);
    const { cause } = error as DrizzleQueryError;
    expect(cause).toBeInstanceOf(pg.DatabaseError);
    expect(cause).toMatchObject({ code: '23505', constraint: 'item_pkey' });
    await expectNoReconnects(pool, () => db.execute(sql`SELECT 1/0`), { cause: { code: '22012' } });
    await expectNothingLeft(pool);
  });

  it('commits, and rolls back when the callback throws, asks for it, or a statement fails', async () => {
    const pool = openPool('drizzle', { pool: { max: 1 } });
    const db = drizzle(pool);
    await db.transaction((transaction) => Promise.resolve(insert(transaction, 1)), { isolationLevel: 'serializable' });
    const mine = new Error('mine');
    const thrown = db.transaction(async (transaction) => {
      await insert(transaction, 2);
      throw mine;
    });
    await expect(thrown).rejects.toBe(mine);
    const asked = db.transaction(async (transaction) => {
      await insert(transaction, 3);
      transaction.rollback();
    });
    await expect(asked).rejects.toThrow('Rollback');
    const failed = db.transaction(async (transaction) => {
      await insert(transaction, 4);
      await transaction.execute(sql`SELECT 1/0`);
    });
    await expect(failed).rejects.toMatchObject({ cause: { code: '22012' } });
    expect(await idsOf(db)).toEqual([1]);
    expect(pool.stats()).toMatchObject({ connects: 1, resets: 0 });
    await expectNothingLeft(pool);
  });

  it('rolls back to the savepoint of a nested transaction', async () => {
    const pool = openPool('drizzle', { pool: { max: 1 } });
    const db = drizzle(pool);
    await db.transaction(async (outer) => {
      await insert(outer, 11);
      const nested = outer.transaction(async (inner) => {
        await insert(inner, 12);
        await inner.transaction((innermost) => Promise.resolve(insert(innermost, 13)));
        await inner.execute(sql`SELECT 1/0`);
      });
      await expect(nested).rejects.toMatchObject({ cause: { code: '22012' } });
      await outer.transaction((inner) => Promise.resolve(insert(inner, 14)));
    });
    expect(await idsOf(db)).toEqual([1, 11, 14]);
    expect(pool.stats().connects).toBe(1);
    await expectNothingLeft(pool);
  });

  it('runs 40 transactions and statements at once on 3 connections', async () => {
    const pool = openPool('drizzle', { pool: { max: 3 } });
    const db = drizzle(pool);
    await expectWithinMax(pool, 40, (index) => {
      const statement = sql`SELECT ${index}::int, pg_sleep(0.002)`;
      if (index % 2) return Promise.resolve(db.execute(statement));
      return db.transaction(async (transaction) => {
        await transaction.execute(statement);
        await transaction.transaction((nested) => Promise.resolve(nested.execute(statement)));
      });
    });
    await expectNothingLeft(pool);
  });

  it('gives its lease back when the connection is lost within the transaction, or at COMMIT', async () => {
    const pool = openPool('drizzle', { pool: { max: 1 } });
    const db = drizzle(pool);
    const kill = async (transaction: Queryable): Promise<void> => {
      const { rows } = await transaction.execute<{ processID: number }>(sql`SELECT pg_backend_pid() AS "processID"`);
      killBackend(rows[0] ?? {});
    };
    const lost = db.transaction(async (transaction) => {
      await kill(transaction);
      await transaction.execute(sql`SELECT pg_sleep(60)`);
    });
    await expect(lost).rejects.toThrow();
    await expect(db.transaction(kill)).rejects.toThrow();
    expect((await db.execute(sql`SELECT 1 AS one`)).rows).toEqual([{ one: 1 }]);
    expect(pool.stats()).toMatchObject({ connects: 3, total: 1 });
    await expectNothingLeft(pool);
  });
});

describe("Drizzle's BEGIN, which stands outside of its try", () => {
  /** A transaction that leaks its lease: the server refuses its BEGIN. */
  const leak = async (db: NodePgDatabase): Promise<void> => {
    const refused = db.transaction(async () => 'never reached', { isolationLevel: 'nonsense' as 'serializable' });
    await expect(refused).rejects.toMatchObject({ cause: { code: '42601' } });
  };

  it('leaks the lease if it is refused; the pool names the line, and ends', async () => {
    const pool = openPool('drizzle', { pool: { max: 2, leakThresholdMillis: 20 } });
    const db = drizzle(pool);
    const warned = new Promise<string>((resolve) => pool.once('warning', resolve));
    await leak(db);
    const message = await warned;
    expect(message).toContain(`Pool "${pool.name}": a connection taken at`);
    // Of the frames of this file, the one that called db.transaction().
    expect(message).toMatch(/drizzle\.test\.ts:\d+/);
    expect(message).toContain('pool.leakThresholdMillis is 20');
    expect(pool.stats()).toMatchObject({ leased: 1, leaks: 1 });
    expect((await db.execute(sql`SELECT 1 AS one`)).rows).toEqual([{ one: 1 }]);
    const { holders } = await pool.drain(1);
    expect(holders.map(({ callSite }) => String(callSite))).toEqual([expect.stringContaining('drizzle.test.ts')]);
    await expectNoSessions(pool);
  });

  it('tells who waits for such a lease where it has gone', async () => {
    const pool = openPool('drizzle', { pool: { max: 1, acquireTimeoutMillis: 1_000 } });
    const db = drizzle(pool);
    await leak(db);
    await expect(db.execute(sql`SELECT 1`)).rejects.toMatchObject({
      cause: { code: 'PG_ACQUIRE_TIMEOUT', message: expect.stringContaining('drizzle.test.ts') },
    });
    await pool.drain(1);
    await expectNoSessions(pool);
  });

  it('costs no place in the pool when it fails because the connection is lost', async () => {
    const pool = openPool('drizzle', { pool: { max: 1, acquireTimeoutMillis: 500 } });
    const db = drizzle(pool);
    killNextBorrowed(pool);
    await expect(db.transaction(async () => 'never reached')).rejects.toThrow();
    expect((await db.execute(sql`SELECT 1 AS one`)).rows).toEqual([{ one: 1 }]);
    await expectAllIdle(pool);
  });
});
