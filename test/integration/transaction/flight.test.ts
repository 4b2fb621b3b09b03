import pg from 'pg';
import Cursor from 'pg-cursor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPool, type PgPool, type TransactionOptions } from 'nestjs-pg';
import { startStandby, type PostgresServer } from 'nestjs-pg/testing';
import { adminQuery } from '../../support/postgres.js';
import { expectNothingLeft, failureOf, insert, items, roundTrips, server, watchPool } from './fixture.js';

describe('the round trips of a transaction', () => {
  it('are one more than it has statements: BEGIN travels with the first', async () => {
    await using watched = await watchPool('trips', { pool: { statementCache: false } });
    const { pool, messages } = watched;
    await pool.transaction(async (transaction) => {
      await transaction.query('INSERT INTO item (id) VALUES ($1)', [1]);
      await transaction.query('SELECT 1');
      await transaction.query('SELECT $1::int', [2]);
    });
    expect(messages.words()).toEqual([
      ...['Parse ', 'Bind ', 'Describe', 'Execute', 'Parse ', 'Bind ', 'Describe', 'Execute', 'Sync'],
      'Query SELECT 1',
      ...['Parse ', 'Bind ', 'Describe', 'Execute', 'Sync'],
      ...['Parse ', 'Bind ', 'Describe', 'Execute', 'Sync'],
    ]);
    expect(await items()).toEqual([1]);
    await expectNothingLeft(pool);
  });

  it('are no more with settings and a role, and for each number of statements', async () => {
    await using watched = await watchPool('settings');
    const { pool, messages } = watched;
    for (const count of [1, 2, 3, 7]) {
      await pool.transaction(
        async (transaction) => {
          for (let index = 0; index < count; index++) await transaction.query('SELECT $1::int', [index]);
        },
        { isolation: 'repeatable read', settings: { 'app.tenant': 'x' }, role: 'postgres', timeoutMillis: 10_000 },
      );
      expect(roundTrips(messages.words())).toBe(count + 1);
    }
    await expectNothingLeft(pool);
  });

  it.each([
    ['LOCK TABLE item IN SHARE MODE'],
    ['SET LOCAL statement_timeout = 0'],
    ['SHOW work_mem'],
    ['EXPLAIN SELECT 1'],
    ['CREATE TEMPORARY TABLE t (a int) ON COMMIT DROP'],
    ['SAVEPOINT a'],
    ['DO $$ BEGIN END $$'],
    ['SELECT 1 /* ; */'],
  ])('are two for %j alone', async (text) => {
    await using watched = await watchPool('utility');
    const { pool, messages } = watched;
    await pool.transaction((transaction) => transaction.query(text));
    const trips = roundTrips(messages.words());
    // A semicolon that is not at the end is not looked at more closely.
    expect(trips).toBe(text.includes(';') && !text.endsWith(';') && !text.startsWith('DO') ? 3 : 2);
    await expectNothingLeft(pool);
  });

  it.each<[string, object | string]>([
    ['a named statement', { name: 'mine', text: 'SELECT 1' }],
    ['types of its own', { text: 'SELECT 1', types: { getTypeParser: () => String } }],
    ['several statements in one text', 'SELECT 1; SELECT 2'],
    ['a submittable', new pg.Query('SELECT 1', () => undefined)],
  ])('are three for %s as the first: BEGIN goes before it', async (_, statement) => {
    await using watched = await watchPool('exceptions');
    const { pool, messages } = watched;
    await pool.transaction(async (transaction) => {
      const answer: unknown = transaction.query(statement as string);
      await (answer instanceof pg.Query ? new Promise((resolve) => answer.once('end', resolve)) : answer);
    });
    expect(roundTrips(messages.words())).toBe(3);
    await expectNothingLeft(pool);
  });

  it('are none for a function that runs no statement, whatever the options', async () => {
    await using watched = await watchPool('nothing');
    const { pool, messages } = watched;
    expect(await pool.transaction(() => 7, { isolation: 'serializable', settings: { work_mem: 64 } })).toBe(7);
    await pool.transaction((outer) => outer.transaction((inner) => inner.transaction(() => undefined)));
    const error = new Error('mine');
    await expect(pool.transaction(() => Promise.reject(error))).rejects.toBe(error);
    await pool.transaction((outer) => outer.transaction(() => Promise.reject(error)).catch(() => undefined));
    expect(await pool.batch([])).toEqual([]);
    expect(messages.words()).toEqual([]);
    // Nor does an inner one that runs none, for those that follow it.
    await pool.transaction(async (outer) => {
      await outer.transaction(() => undefined);
      await outer.transaction((inner) => inner.transaction(() => Promise.reject(error))).catch(() => undefined);
      await outer.query(insert(1));
    });
    expect(messages.words().filter((word) => word === 'Execute')).toHaveLength(3);
    await expectNothingLeft(pool);
  });

  it('carry SAVEPOINT and RELEASE with the next statement, or not at all', async () => {
    await using watched = await watchPool('savepoints', { pool: { statementCache: false } });
    const { pool, messages } = watched;
    await pool.transaction(async (outer) => {
      await outer.transaction(async (inner) => {
        await inner.query(insert(1));
        await inner.transaction((innermost) => innermost.query(insert(2)));
        await inner.query(insert(3));
      });
      await outer.query(insert(4));
      // Its RELEASE has nothing to travel with, and COMMIT makes it needless.
      await outer.transaction((inner) => inner.query(insert(5)));
    });
    const texts = messages.take().flatMap(({ type, body }) => {
      if (type === 'S') return ['Sync'];
      return type === 'P' ? [body.toString('utf8').split('\0')[1]?.replace(/\d+$/, '')] : [];
    });
    const name = 'nestjs_pg_';
    const statement = 'INSERT INTO item (id) VALUES ($1)';
    expect(texts).toEqual([
      ...['BEGIN', `SAVEPOINT ${name}`, statement, 'Sync'],
      ...[`SAVEPOINT ${name}`, statement, 'Sync'],
      ...[`RELEASE SAVEPOINT ${name}`, statement, 'Sync'],
      ...[`RELEASE SAVEPOINT ${name}`, statement, 'Sync'],
      ...[`SAVEPOINT ${name}`, statement, 'Sync'],
      ...['COMMIT', 'Sync'],
    ]);
    expect(await items()).toEqual([1, 2, 3, 4, 5]);
    await expectNothingLeft(pool);
  });

  it('are one for a batch, in one write and with one Sync', async () => {
    await using watched = await watchPool('batch');
    const { pool, proxy, messages } = watched;
    await pool.batch([insert(1), 'SELECT 1', 'LOCK TABLE item', insert(2)], { settings: { 'app.tenant': 'x' } });
    const words = messages.words();
    expect(words.filter((word) => word === 'Sync')).toHaveLength(1);
    expect(words.at(-1)).toBe('Sync');
    expect(roundTrips(words)).toBe(1);
    let chunks = 0;
    proxy.onData((chunk, from) => {
      if (from === 'client') chunks++;
      return chunk;
    });
    await pool.batch([insert(3), insert(4), 'SELECT 1']);
    expect(chunks).toBe(1);
    await pool.transaction((transaction) => transaction.query(insert(5)));
    expect(chunks).toBe(3);
    expect(await items()).toEqual([1, 2, 3, 4, 5]);
    await expectNothingLeft(pool);
  });

  it('are the same for streams and cursors: BEGIN goes before them', async () => {
    await using watched = await watchPool('streams');
    const { pool, messages } = watched;
    await pool.transaction(async (transaction) => {
      const cursor = transaction.query(new Cursor('SELECT 1 AS one'));
      expect(await cursor.read(10)).toEqual([{ one: 1 }]);
      await cursor.close();
      const rows: unknown[] = [];
      for await (const row of pool.stream('SELECT 1 AS one')) rows.push(row);
      expect(rows).toEqual([{ one: 1 }]);
    });
    const begins = messages.take().filter(({ body }) => body.toString('latin1').includes('BEGIN'));
    expect(begins).toHaveLength(1);
    await expectNothingLeft(pool);
  });
});

describe('an opening that fails', () => {
  it.each<[string, TransactionOptions, string]>([
    ['an unknown setting', { settings: { no_such_setting: 1 } }, '42704'],
    ['a bad value', { settings: { work_mem: 'much' } }, '22023'],
    ['a setting that is too late', { settings: { transaction_read_only: true, shared_buffers: 1 } }, '55P02'],
    ['an unknown role', { role: 'nobody' }, '22023'],
  ])('by %s takes what follows it with it, and costs no connection', async (_, options, code) => {
    await using watched = await watchPool('opening');
    const { pool, messages } = watched;
    let isReached = false;
    const transaction = pool.transaction(async (open) => {
      await open.query(insert(1));
      isReached = true;
    }, options);
    const error = await failureOf(transaction);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error.code).toBe(code);
    expect(isReached).toBe(false);
    // All of it in one flight, and a ROLLBACK.
    expect(roundTrips(messages.words())).toBe(2);
    await expect(pool.batch([insert(2)], options)).rejects.toMatchObject({ code });
    expect(await items()).toEqual([]);
    expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
    await expectNothingLeft(pool);
  });
});

describe('a BEGIN that fails', () => {
  let standby: PostgresServer;
  beforeAll(async () => {
    standby = await startStandby(server());
  });
  afterAll(() => standby.close());

  // Taken outside of a transaction it would stay until the end of the session.
  const lock = 'SELECT pg_advisory_lock(1)';
  const READ_WRITE = { readOnly: false };
  const locks = async (): Promise<unknown> =>
    (await adminQuery(standby, "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory'"))[0]?.count;

  it.each<[string, (pool: PgPool) => Promise<unknown>]>([
    ['a statement', (pool) => pool.transaction((open) => open.query(lock), READ_WRITE)],
    ['a statement of pool.query()', (pool) => pool.transaction(() => pool.query(lock), READ_WRITE)],
    ['a named statement', (pool) => pool.transaction((open) => open.query({ name: 'l', text: lock }), READ_WRITE)],
    ['several in one text', (pool) => pool.transaction((open) => open.query(`${lock}; ${lock}`), READ_WRITE)],
    ['a stream', (pool) => pool.transaction(() => pool.stream(lock).next(), READ_WRITE)],
    ['a cursor', (pool) => pool.transaction((open) => open.query(new Cursor(lock)).read(1), READ_WRITE)],
    ['an inner one', (pool) => pool.transaction((o) => o.transaction((inner) => inner.query(lock)), READ_WRITE)],
    ['an inner batch', (pool) => pool.transaction(() => pool.batch([lock, lock]), READ_WRITE)],
    ['a batch', (pool) => pool.batch([lock, lock], READ_WRITE)],
  ])('keeps %s from running outside of a transaction', async (_, run) => {
    const pool = createPool({ connectionString: standby.connectionString, pool: { max: 1 } });
    const error = await failureOf(run(pool));
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error.message).toBe('cannot set transaction read-write mode during recovery');
    expect(await locks()).toBe(0);
    expect(pool.stats()).toMatchObject({ connects: 1, idle: 1, retired: {} });
    await pool.end();
  });

  it('ends the transaction for whoever catches its error, and says by what', async () => {
    const pool = createPool({ connectionString: standby.connectionString, pool: { max: 1 } });
    const second: unknown[] = [];
    const transaction = pool.transaction(async (open) => {
      await open.query(lock).catch(() => undefined);
      second.push(await failureOf(open.query(lock)));
    }, READ_WRITE);
    const error = await failureOf(transaction);
    expect(second).toMatchObject([{ code: 'PG_TRANSACTION_ENDED' }]);
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_ENDED', cause: { code: '0A000' } });
    expect(await locks()).toBe(0);
    await pool.end();
  });
});
