import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import * as db from 'zapatos/db';
import { adminQuery } from '../../support/postgres.js';
import {
  expectNoReconnects,
  expectNothingLeft,
  expectWithinMax,
  killBackend,
  killNextBorrowed,
  openPool,
  server,
} from './pool-under-test.js';

const { Serializable, ReadCommitted } = db.IsolationLevel;
const divisionByZero = db.sql`SELECT 1/0`;

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL)');
});

describe('Zapatos', () => {
  it('takes the pool for a pool, and each of its leases for a client', async () => {
    const pool = openPool('zapatos');
    const [row] = await db.sql<db.SQL, { name: string }[]>`SELECT current_setting('application_name') AS name`.run(
      pool,
    );
    expect(row?.name).toBe(pool.name);
    const taken = await db.transaction(pool, ReadCommitted, async (client) => {
      expect(client).toBeInstanceOf(pg.Client);
      return pool.stats().leased;
    });
    expect(taken).toBe(1);
    // A client that is passed in stays its owner's.
    const lease = await pool.connect();
    await db.transaction(lease, ReadCommitted, (client) => divisionByZero.run(client)).catch(() => undefined);
    expect(lease.isReleased).toBe(false);
    lease.release();
    await expectNothingLeft(pool);
  });

  it('binds parameters, and prepares statements on each connection', async () => {
    const pool = openPool('zapatos', { pool: { max: 2 } });
    const text = db.sql<db.SQL, { text: string }[]>`SELECT ${db.param('Æsop')}::text AS text`.prepared('by-name');
    const results = await Promise.all(Array.from({ length: 10 }, () => text.run(pool)));
    expect(results).toEqual(Array(10).fill([{ text: 'Æsop' }]));
    await expectNothingLeft(pool);
  });

  it("shows the server's errors by their code, and they cost no connection", async () => {
    const pool = openPool('zapatos');
    const insert = db.sql`INSERT INTO item VALUES (0, 'zero')`;
    await insert.run(pool);
    const error: unknown = await insert.run(pool).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(db.isDatabaseError(error as pg.DatabaseError, 'IntegrityConstraintViolation_UniqueViolation')).toBe(true);
    await expectNoReconnects(pool, () => divisionByZero.run(pool), { code: '22012' });
    await expectNothingLeft(pool);
  });

  it('commits, and rolls back when the callback throws or a statement fails', async () => {
    const pool = openPool('zapatos', { pool: { max: 1 } });
    const insert = (id: number): db.SQLFragment => db.sql`INSERT INTO item VALUES (${db.param(id)}, 'in transaction')`;
    await db.transaction(pool, Serializable, async (client) => {
      await insert(1).run(client);
      // A transaction in a transaction is the same one.
      await db.transaction(client, ReadCommitted, (inner) => insert(2).run(inner));
    });
    const mine = new Error('mine');
    const thrown = db.transaction(pool, Serializable, async (client) => {
      await insert(3).run(client);
      throw mine;
    });
    await expect(thrown).rejects.toBe(mine);
    const failed = db.transaction(pool, Serializable, async (client) => {
      await insert(4).run(client);
      await divisionByZero.run(client);
    });
    await expect(failed).rejects.toMatchObject({ code: '22012' });
    const rows = await db.sql<db.SQL, { id: number }[]>`SELECT id FROM item WHERE id > 0 ORDER BY id`.run(pool);
    expect(rows.map(({ id }) => id)).toEqual([1, 2]);
    expect(pool.stats()).toMatchObject({ connects: 1, resets: 0 });
    await expectNothingLeft(pool);
  });

  it('tries again on the same lease what could not be serialized', async () => {
    const pool = openPool('zapatos', { pool: { max: 1 } });
    await adminQuery(server(), "INSERT INTO item VALUES (10, 'contended')");
    let attempts = 0;
    await db.transaction(pool, Serializable, async (client) => {
      await db.sql`SELECT name FROM item WHERE id = 10`.run(client);
      if (++attempts === 1) await adminQuery(server(), "UPDATE item SET name = 'by another' WHERE id = 10");
      await db.sql`UPDATE item SET name = name || '!' WHERE id = 10`.run(client);
    });
    expect(attempts).toBe(2);
    const rows = await db.sql`SELECT name FROM item WHERE id = 10`.run(pool);
    expect(rows).toEqual([{ name: 'by another!' }]);
    expect(pool.stats().acquires).toBe(2);
    await expectNothingLeft(pool);
  });

  it('runs 40 transactions and statements at once on 3 connections', async () => {
    const pool = openPool('zapatos', { pool: { max: 3 } });
    await expectWithinMax(pool, 40, (index) => {
      const statement = db.sql`SELECT ${db.param(index)}::int, pg_sleep(0.002)`;
      return index % 2 ? statement.run(pool) : db.transaction(pool, ReadCommitted, (client) => statement.run(client));
    });
    await expectNothingLeft(pool);
  });

  it('gives its lease back when the connection is lost at BEGIN, or within the transaction', async () => {
    const pool = openPool('zapatos', { pool: { max: 1 } });
    killNextBorrowed(pool);
    await expect(db.transaction(pool, ReadCommitted, async () => 'never reached')).rejects.toThrow();
    expect(await db.transaction(pool, ReadCommitted, async () => 'alive')).toBe('alive');
    const lost = db.transaction(pool, ReadCommitted, async (client) => {
      killBackend(client);
      await db.sql`SELECT pg_sleep(60)`.run(client);
    });
    await expect(lost).rejects.toThrow();
    expect(await db.sql`SELECT 1 AS one`.run(pool)).toEqual([{ one: 1 }]);
    expect(pool.stats()).toMatchObject({ connects: 3, total: 1 });
    await expectNothingLeft(pool);
  });
});
