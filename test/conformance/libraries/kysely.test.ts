import { CompiledQuery, Kysely, PostgresDialect, sql, type PostgresDialectConfig, type RawBuilder } from 'kysely';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { beforeAll, describe, expect, it } from 'vitest';
import type { PgPool } from 'nestjs-pg';
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
  warningsOf,
} from './pool-under-test.js';

interface Database {
  item: { id: number; name: string };
}

function kyselyOn(pool: PgPool, config: Partial<PostgresDialectConfig> = {}): Kysely<Database> {
  return new Kysely<Database>({ dialect: new PostgresDialect({ pool, ...config }) });
}

async function idsOf(db: Kysely<Database>): Promise<number[]> {
  const rows = await db.selectFrom('item').select('id').where('id', '>', 0).orderBy('id').execute();
  return rows.map(({ id }) => id);
}

const divisionByZero = (): RawBuilder<unknown> => sql`SELECT 1/0`;

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL)');
});

describe('Kysely', () => {
  it('takes the pool as it is, or from a function, and ends it', async () => {
    const pool = openPool('kysely');
    const db = kyselyOn(pool);
    const { rows } = await sql<{ name: string }>`SELECT current_setting('application_name') AS name`.execute(db);
    expect(rows).toEqual([{ name: pool.name }]);
    await expectAllIdle(pool);
    await db.destroy();
    expect(pool.ended).toBe(true);
    await expectNoSessions(pool);

    const later = openPool('kysely');
    const fromFunction = kyselyOn(later, { pool: async () => later });
    expect((await sql`SELECT 1 AS one`.execute(fromFunction)).rows).toEqual([{ one: 1 }]);
    await expectNothingLeft(later);
    // The second end of the same pool.
    await fromFunction.destroy();
  });

  it('writes and reads, and counts what it has changed', async () => {
    const pool = openPool('kysely');
    const db = kyselyOn(pool);
    const values = [-1, -2].map((id) => ({ id, name: `item ${id}` }));
    expect(await db.insertInto('item').values(values).returning('id').execute()).toEqual([{ id: -1 }, { id: -2 }]);
    const { numUpdatedRows } = await db.updateTable('item').set({ name: 'new' }).executeTakeFirstOrThrow();
    expect(numUpdatedRows).toBe(2n);
    const { numDeletedRows } = await db.deleteFrom('item').where('id', '=', -2).executeTakeFirstOrThrow();
    expect(numDeletedRows).toBe(1n);
    expect(await db.selectFrom('item').selectAll().execute()).toEqual([{ id: -1, name: 'new' }]);
    expect(pool.stats().connects).toBe(1);
    await expectNothingLeft(pool);
  });

  it("rejects with the server's errors, and they cost no connection", async () => {
    const pool = openPool('kysely');
    const db = kyselyOn(pool);
    const insert = db.insertInto('item').values({ id: -3, name: 'once' });
    await insert.execute();
    const error: unknown = await insert.execute().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error).toMatchObject({ code: '23505', constraint: 'item_pkey' });
    await expectNoReconnects(pool, () => divisionByZero().execute(db), { code: '22012' });
    await expectNothingLeft(pool);
  });

  it('commits, and rolls back when the callback throws or a statement fails', async () => {
    const pool = openPool('kysely', { pool: { max: 1 } });
    const db = kyselyOn(pool);
    const insert = (on: Kysely<Database>, id: number): Promise<unknown> =>
      on.insertInto('item').values({ id, name: 'in transaction' }).execute();
    await db.transaction().execute((transaction) => insert(transaction, 1));
    const mine = new Error('mine');
    const thrown = db
      .transaction()
      .setIsolationLevel('serializable')
      .execute(async (transaction) => {
        await insert(transaction, 2);
        throw mine;
      });
    await expect(thrown).rejects.toBe(mine);
    const failed = db.transaction().execute(async (transaction) => {
      await insert(transaction, 3);
      await divisionByZero().execute(transaction);
    });
    await expect(failed).rejects.toMatchObject({ code: '22012' });
    // Kysely 0.28 does not look at how COMMIT ended: a failed statement that was caught makes it a ROLLBACK.
    await db.transaction().execute(async (transaction) => {
      await insert(transaction, 4);
      await divisionByZero()
        .execute(transaction)
        .catch(() => undefined);
    });
    expect(await idsOf(db)).toEqual([1]);
    expect(pool.stats()).toMatchObject({ connects: 1, resets: 0 });
    await expectNothingLeft(pool);
  });

  it('rolls back to savepoints', async () => {
    const pool = openPool('kysely', { pool: { max: 1 } });
    const db = kyselyOn(pool);
    const transaction = await db.startTransaction().execute();
    await transaction.insertInto('item').values({ id: 11, name: 'kept' }).execute();
    const nested = await transaction.savepoint('before').execute();
    await nested.insertInto('item').values({ id: 12, name: 'undone' }).execute();
    await expect(divisionByZero().execute(nested)).rejects.toMatchObject({ code: '22012' });
    const back = await nested.rollbackToSavepoint('before').execute();
    await back.insertInto('item').values({ id: 13, name: 'kept too' }).execute();
    await back.releaseSavepoint('before').execute();
    await transaction.commit().execute();
    expect(await idsOf(db)).toEqual([1, 11, 13]);
    await expectNothingLeft(pool);
  });

  it('runs 40 transactions, statements and sessions at once on 3 connections', async () => {
    const pool = openPool('kysely', { pool: { max: 3 } });
    const db = kyselyOn(pool);
    await expectWithinMax(pool, 40, (index) => {
      const statement = sql`SELECT ${index}::int, pg_sleep(0.002)`;
      if (index % 3 === 0) return statement.execute(db);
      if (index % 3 === 1) return db.transaction().execute((transaction) => statement.execute(transaction));
      return db.connection().execute((session) => statement.execute(session));
    });
    await expectNothingLeft(pool);
  });

  it('calls onReserveConnection and onCreateConnection for every lease, before its first statement', async () => {
    const pool = openPool('kysely', { pool: { max: 1 } });
    const calls: string[] = [];
    const db = kyselyOn(pool, {
      onCreateConnection: async (connection) => {
        calls.push('create');
        await connection.executeQuery(CompiledQuery.raw("SET statement_timeout = '7s'"));
      },
      onReserveConnection: async () => {
        calls.push('reserve');
      },
    });
    for (let round = 0; round < 2; round++) {
      const { rows } = await sql<{ limit: string }>`SELECT current_setting('statement_timeout') AS limit`.execute(db);
      expect(rows).toEqual([{ limit: '7s' }]);
    }
    // A lease is a client of its own, so each is new to Kysely. What is to run once a connection is pool.onConnect.
    expect(calls).toEqual(['create', 'reserve', 'create', 'reserve']);
    expect(pool.stats().connects).toBe(1);
    await expectNothingLeft(pool);
  });

  // Kysely's driver has taken the lease, and does not give it back when onCreateConnection rejects.
  it('leaks the lease whose onCreateConnection fails; the pool names the line, and ends', async () => {
    const pool = openPool('kysely', { pool: { max: 2, leakThresholdMillis: 20 } });
    const db = kyselyOn(pool, {
      onCreateConnection: async (connection) => {
        await connection.executeQuery(CompiledQuery.raw('SELECT 1/0'));
      },
    });
    const warned = new Promise<string>((resolve) => pool.once('warning', resolve));
    await expect(sql`SELECT 1`.execute(db)).rejects.toMatchObject({ code: '22012' });
    expect(await warned).toMatch(/Pool "kysely-\d+": a connection taken at .* has been held for/);
    // It takes the pool nothing else.
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    const { holders } = await pool.drain(1);
    expect(holders).toHaveLength(1);
    await expectNoSessions(pool);
  });

  it('gives its lease back when the connection is lost at BEGIN, within the transaction, or at COMMIT', async () => {
    const pool = openPool('kysely', { pool: { max: 1 } });
    const db = kyselyOn(pool);
    killNextBorrowed(pool);
    await expect(db.transaction().execute(async () => 'never reached')).rejects.toThrow();
    const lost = db.transaction().execute(async (transaction) => {
      const { rows } = await sql<{ processID: number }>`SELECT pg_backend_pid() AS "processID"`.execute(transaction);
      killBackend(rows[0] ?? {});
      await sql`SELECT pg_sleep(60)`.execute(transaction);
    });
    await expect(lost).rejects.toThrow();
    const lostAtCommit = db.transaction().execute(async (transaction) => {
      const { rows } = await sql<{ processID: number }>`SELECT pg_backend_pid() AS "processID"`.execute(transaction);
      killBackend(rows[0] ?? {});
    });
    await expect(lostAtCommit).rejects.toThrow();
    expect((await sql`SELECT 1 AS one`.execute(db)).rows).toEqual([{ one: 1 }]);
    expect(pool.stats()).toMatchObject({ connects: 4, total: 1 });
    await expectNothingLeft(pool);
  });

  it('names the holder of a controlled transaction that nobody ends', async () => {
    const pool = openPool('kysely', { pool: { max: 1 } });
    const db = kyselyOn(pool);
    const transaction = await db.startTransaction().execute();
    await sql`SELECT 1`.execute(transaction);
    const { holders } = await pool.drain(1);
    expect(holders).toHaveLength(1);
    await expect(sql`SELECT 1`.execute(transaction)).rejects.toThrow();
    // Its end finds the lease gone, and tells of it instead of touching another's.
    await expect(transaction.rollback().execute()).rejects.toThrow();
    await expectNoSessions(pool);
  });
});

describe('Kysely 0.29', () => {
  // It opens a client of its own to cancel a statement, out of pool.Client and pool.options. What it does is written out
  // here, since it needs a newer Node than this package.
  it('cancels a statement by a client that it makes itself', async () => {
    const pool = openPool('kysely', { pool: { max: 1 } });
    const { Client, options } = pool as unknown as { Client: typeof pg.Client; options: pg.ClientConfig };
    const lease = await pool.connect();
    const { processID } = lease as unknown as { processID: number };
    const cancelled = expect(lease.query('SELECT pg_sleep(600)')).rejects.toMatchObject({ code: '57014' });
    // The password of a pg.Pool is not enumerable, so Kysely asks for it by name.
    const control = new Client({ ...options, password: 'password' in options ? options.password : undefined });
    await control.connect();
    await control.query(`select pg_cancel_backend(${processID})`, []);
    // Nobody waits for this.
    void control.end();
    await cancelled;
    lease.release();
    expect(pool.stats().connects).toBe(1);
    await expectNothingLeft(pool);
  });
});

describe("Kysely's stream", () => {
  const numbers = (last: number): RawBuilder<{ n: number }> =>
    sql<{ n: number }>`SELECT n FROM generate_series(1, ${last}::int) n`;

  async function* stream(db: Kysely<Database>, query: RawBuilder<{ n: number }>): AsyncGenerator<number> {
    const executor = db.getExecutor();
    const compiled = query.compile(db);
    for await (const { rows } of executor.stream<{ n: number }>(compiled, 100)) {
      for (const { n } of rows) yield n;
    }
  }

  it('gives its connection back at the end, after a break and after an error', async () => {
    const pool = openPool('kysely', { pool: { max: 1 } });
    const db = kyselyOn(pool, { cursor: Cursor });
    let sum = 0;
    for await (const n of stream(db, numbers(1_000))) sum += n;
    expect(sum).toBe(500_500);
    for await (const n of stream(db, numbers(1_000_000))) if (n === 250) break;
    const failing = sql<{ n: number }>`SELECT 1 / (500 - n) AS n FROM generate_series(1, 1000) n`;
    let read = 0;
    const reading = async (): Promise<void> => {
      for await (const _ of stream(db, failing)) read++;
    };
    await expect(reading()).rejects.toMatchObject({ code: '22012' });
    expect(read).toBeGreaterThan(0);
    expect((await sql`SELECT 1 AS one`.execute(db)).rows).toEqual([{ one: 1 }]);
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    expect(warningsOf(pool)).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('runs in a transaction, beside its statements', async () => {
    const pool = openPool('kysely', { pool: { max: 1 } });
    const db = kyselyOn(pool, { cursor: Cursor });
    await db.transaction().execute(async (transaction) => {
      const rows: unknown[] = [];
      for await (const row of transaction.selectFrom('item').selectAll().stream(1)) rows.push(row);
      await sql`SELECT ${rows.length}::int`.execute(transaction);
    });
    expect(pool.stats()).toMatchObject({ connects: 1, resets: 0 });
    await expectNothingLeft(pool);
  });

  it('runs 20 times at once on 3 connections', async () => {
    const pool = openPool('kysely', { pool: { max: 3 } });
    const db = kyselyOn(pool, { cursor: Cursor });
    await expectWithinMax(pool, 20, async (index) => {
      let rows = 0;
      for await (const _ of stream(db, numbers(500))) if (++rows > index * 20) break;
    });
    await expectNothingLeft(pool);
  });
});
