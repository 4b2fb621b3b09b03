import type { Readable } from 'node:stream';
import { setImmediate as tick } from 'node:timers/promises';
import makeKnex, { type Knex } from 'knex';
import pg from 'pg';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { PgPool } from 'nestjs-pg';
import { adminQuery, sessionsOf, waitFor } from '../../support/postgres.js';
import {
  expectAllIdle,
  expectNoReconnects,
  expectNothingLeft,
  expectWithinMax,
  killBackend,
  killNextBorrowed,
  openPool,
  server,
  warningsOf,
} from './pool-under-test.js';

const silent = (): void => undefined;

function knexOn(pool: PgPool, config: Knex.Config = {}): Knex {
  const log = { warn: silent, error: silent, debug: silent, deprecate: silent };
  return makeKnex({ client: 'pg', connectionPool: pool, log, ...config });
}

async function idsOf(knex: Knex): Promise<number[]> {
  return knex('item').where('id', '>', 0).orderBy('id').pluck('id');
}

const insert = (on: Knex, id: number): PromiseLike<unknown> => on('item').insert({ id, name: 'in transaction' });

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL)');
});

afterEach(() => {
  vi.unstubAllEnvs();
});

describe('Knex', () => {
  it('takes the pool as its connectionPool, and does not end it', async () => {
    const pool = openPool('knex');
    const knex = knexOn(pool);
    const { rows } = await knex.raw<pg.QueryResult>("SELECT current_setting('application_name') AS name");
    expect(rows).toEqual([{ name: pool.name }]);
    await knex.destroy();
    expect(pool.ending).toBe(false);
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await expectNothingLeft(pool);
  });

  it('creates tables, writes and reads', async () => {
    const pool = openPool('knex', { pool: { max: 2 } });
    const knex = knexOn(pool);
    await knex.schema.createTable('made_by_knex', (table) => {
      table.increments('id');
      table.string('name').notNullable().index();
    });
    expect(await knex('made_by_knex').insert([{ name: 'a' }, { name: 'b' }], ['id'])).toEqual([{ id: 1 }, { id: 2 }]);
    expect(await knex('made_by_knex').where({ id: 1 }).update({ name: 'new' })).toBe(1);
    expect(await knex('made_by_knex').where({ id: 2 }).delete()).toBe(1);
    expect(await knex('made_by_knex').first()).toEqual({ id: 1, name: 'new' });
    await knex.schema.dropTable('made_by_knex');
    await expectNothingLeft(pool);
  });

  it('runs its migrations', async () => {
    const pool = openPool('knex', { pool: { max: 2 } });
    const knex = knexOn(pool);
    const migration: Knex.Migration = {
      up: (on) => on.schema.createTable('migrated', (table) => table.increments('id')),
      down: (on) => on.schema.dropTable('migrated'),
    };
    const migrationSource: Knex.MigrationSource<string> = {
      getMigrations: async () => ['first'],
      getMigrationName: (name) => name,
      getMigration: async () => migration,
    };
    await knex.migrate.latest({ migrationSource });
    expect(await knex.schema.hasTable('migrated')).toBe(true);
    await knex.migrate.rollback({ migrationSource });
    expect(await knex.schema.hasTable('migrated')).toBe(false);
    await expectNothingLeft(pool);
  });

  it("rejects with the server's errors, and they cost no connection", async () => {
    const pool = openPool('knex');
    const knex = knexOn(pool);
    await insert(knex, -1);
    const error: unknown = await insert(knex, -1).then(undefined, (reason: unknown) => reason);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error).toMatchObject({ code: '23505', constraint: 'item_pkey' });
    await expectNoReconnects(pool, () => knex.raw('SELECT 1/0'), { code: '22012' });
    await expectNothingLeft(pool);
  });

  it('commits, and rolls back when the callback throws, asks for it, or a statement fails', async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    await knex.transaction((transaction) => Promise.resolve(insert(transaction, 1)));
    const mine = new Error('mine');
    const thrown = knex.transaction(async (transaction) => {
      await insert(transaction, 2);
      throw mine;
    });
    await expect(thrown).rejects.toBe(mine);
    const failed = knex.transaction(async (transaction) => {
      await insert(transaction, 3);
      await transaction.raw('SELECT 1/0');
    });
    await expect(failed).rejects.toMatchObject({ code: '22012' });
    const byHand = await knex.transaction();
    await insert(byHand, 4);
    await byHand.rollback();
    const provide = knex.transactionProvider();
    const provided = await provide();
    await insert(provided, 5);
    await provided.commit();
    expect(await idsOf(knex)).toEqual([1, 5]);
    expect(pool.stats()).toMatchObject({ connects: 1, resets: 0 });
    await expectNothingLeft(pool);
  });

  it('rolls back to the savepoint of a nested transaction', async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    await knex.transaction(async (outer) => {
      await insert(outer, 11);
      const nested = outer.transaction(async (inner) => {
        await insert(inner, 12);
        await inner.savepoint((innermost) => Promise.resolve(insert(innermost, 13)));
        await inner.raw('SELECT 1/0');
      });
      await expect(nested).rejects.toMatchObject({ code: '22012' });
      await outer.transaction((inner) => Promise.resolve(insert(inner, 14)));
    });
    expect(await idsOf(knex)).toEqual([1, 5, 11, 14]);
    expect(pool.stats().connects).toBe(1);
    await expectNothingLeft(pool);
  });

  it('runs 40 transactions and statements at once on 3 connections', async () => {
    const pool = openPool('knex', { pool: { max: 3 } });
    const knex = knexOn(pool);
    const run = async (on: Knex, index: number): Promise<void> => {
      await on.raw('SELECT ?::int, pg_sleep(0.002)', [index]);
    };
    await expectWithinMax(pool, 40, (index) =>
      index % 2 ? run(knex, index) : knex.transaction((transaction) => run(transaction, index)),
    );
    await expectNothingLeft(pool);
  });

  it('gives its lease back when the connection is lost at BEGIN, within the transaction, or at COMMIT', async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    // With its first lease Knex asks for the server's version, and passes over an error.
    await knex.raw('SELECT 1');
    killNextBorrowed(pool);
    await expect(knex.transaction(async () => 'never reached')).rejects.toThrow();
    const kill = async (transaction: Knex): Promise<void> => {
      const { rows } = await transaction.raw<pg.QueryResult<{ processID: number }>>(
        'SELECT pg_backend_pid() AS "processID"',
      );
      killBackend(rows[0] ?? {});
    };
    const lost = knex.transaction(async (transaction) => {
      await kill(transaction);
      await transaction.raw('SELECT pg_sleep(60)');
    });
    await expect(lost).rejects.toThrow();
    await expect(knex.transaction(kill)).rejects.toThrow();
    expect((await knex.raw<pg.QueryResult>('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(pool.stats()).toMatchObject({ connects: 4, total: 1 });
    await expectNothingLeft(pool);
  });
});

describe("Knex's timeout", () => {
  it('closes the connection whose statement it has given up', async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    // Open already, so that the time does not run out while connecting.
    await knex.raw('SELECT 1');
    const late = knex.raw('SELECT pg_sleep(1)').timeout(20);
    await expect(late).rejects.toMatchObject({ name: 'KnexTimeoutError' });
    expect((await knex.raw<pg.QueryResult>('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(pool.stats()).toMatchObject({ connects: 2, retired: { asked: 1 } });
    await expectNothingLeft(pool);
  });

  it('does not leave the statement running on the server', async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    await knex.raw('SELECT 1');
    const late = knex.raw('SELECT pg_sleep(600)').timeout(20);
    await expect(late).rejects.toMatchObject({ name: 'KnexTimeoutError' });
    await pool.end();
    await waitFor(async () => (await sessionsOf(server(), pool.name)).length === 0, {
      message: 'the statement to be cancelled',
      deadline: 2_000,
    });
  });

  it('cancels on a client of its own, which it configures by PG* variables alone', async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    const { host, port, user, password, database } = server();
    const variables = { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: database };
    for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value);
    const late = knex.raw('SELECT pg_sleep(600)').timeout(20, { cancel: true });
    await expect(late).rejects.toMatchObject({ name: 'KnexTimeoutError' });
    expect((await knex.raw<pg.QueryResult>('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await expectNothingLeft(pool);
  });
});

describe("Knex's stream", () => {
  const numbers = (knex: Knex, last: number): Readable =>
    knex.raw('SELECT n FROM generate_series(1, ?::int) n', [last]).stream();

  /** Knex releases when the query has ended and again when the stream has closed, in a listener: what nobody can catch. */
  async function uncaughtIn(work: () => Promise<void>): Promise<unknown[]> {
    const caught: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => caught.push(error));
    try {
      await work();
      await tick();
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of listeners) process.on('uncaughtException', listener);
    }
    return caught;
  }

  /** In front of Knex's own listener, behind which none is heard if it throws. */
  const closing = (stream: Readable): Promise<void> =>
    new Promise((resolve) => stream.prependOnceListener('close', resolve));

  const releasedTwice = [expect.objectContaining({ code: 'PG_LEASE_RELEASED' })];

  it('gives its connection back at its end, and is told of its second release', async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    let sum = 0;
    const uncaught = await uncaughtIn(async () => {
      const stream = numbers(knex, 1_000);
      const closed = closing(stream);
      for await (const { n } of stream as AsyncIterable<{ n: number }>) sum += n;
      await closed;
    });
    expect(sum).toBe(500_500);
    // As with pg.Pool. No other borrower's lease has ended by it.
    expect(uncaught).toEqual(releasedTwice);
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });

  it("does not end another's lease with its second release", async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    let next: Promise<unknown> | undefined;
    await uncaughtIn(async () => {
      const stream = numbers(knex, 10);
      const closed = closing(stream);
      // Waits for the stream's connection, and gets it between the two releases.
      const lease = pool.connect();
      next = lease.then(async (holder) => {
        await closed;
        await tick();
        expect(pool.stats().leased).toBe(1);
        const { rows } = await holder.query('SELECT 1 AS one');
        holder.release();
        return rows;
      });
      stream.resume();
      await closed;
    });
    expect(await next).toEqual([{ one: 1 }]);
    await expectNothingLeft(pool);
  });

  it('gives its connection back after an error', async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    const uncaught = await uncaughtIn(async () => {
      const stream = knex.raw('SELECT 1 / (500 - n) FROM generate_series(1, 1000) n').stream() as unknown as Readable;
      const closed = closing(stream);
      await expect(stream.toArray()).rejects.toMatchObject({ code: '22012' });
      await closed;
    });
    expect(uncaught).toEqual(releasedTwice);
    expect((await knex.raw<pg.QueryResult>('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(pool.stats().connects).toBe(1);
    await expectNothingLeft(pool);
  });

  it('costs its connection when it is abandoned, since Knex releases it before the cursor is closed', async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    const uncaught = await uncaughtIn(async () => {
      const stream = numbers(knex, 1_000_000);
      const closed = closing(stream);
      for await (const _ of stream) break;
      await closed;
      await expectAllIdle(pool);
    });
    expect(uncaught).toEqual([]);
    expect(pool.stats().retired).toEqual({ busy: 1 });
    expect(warningsOf(pool)).toEqual([expect.stringContaining('while a statement was still running')]);
    expect((await knex.raw<pg.QueryResult>('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await expectNothingLeft(pool);
  });

  it('runs in a transaction', async () => {
    const pool = openPool('knex', { pool: { max: 1 } });
    const knex = knexOn(pool);
    await knex.transaction(async (transaction) => {
      expect(await numbers(transaction, 250).toArray()).toHaveLength(250);
      await transaction.raw('SELECT 1');
    });
    expect(pool.stats()).toMatchObject({ connects: 1, resets: 0 });
    await expectNothingLeft(pool);
  });
});
