import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { PgOptions, PgPool } from 'nestjs-pg';
import { FastPath } from '../../../lib/client/fast-path.js';
import { adminQuery } from '../../support/postgres.js';
import { expectNothingLeft, failureOf, insert, items, openPool, roundTrips, server, watchPool } from './fixture.js';

/** What holds whatever a statement is sent by. */
async function expectTransactions(pool: PgPool): Promise<void> {
  const mine = new Error('mine');
  await pool.transaction(
    async (transaction) => {
      await transaction.query(insert(1));
      await failureOf(transaction.transaction((inner) => inner.query('SELECT 1/0')));
      await transaction.transaction((inner) => inner.query(insert(2)));
      await pool.batch([insert(3), insert(4)]);
      expect(await failureOf(pool.batch([insert(5), 'SELECT 1/0']))).toMatchObject({ index: 1 });
      const { rows } = await pool.query("SELECT current_setting('app.tenant') AS tenant");
      expect(rows).toEqual([{ tenant: 'x' }]);
    },
    { settings: { 'app.tenant': 'x' }, isolation: 'repeatable read' },
  );
  expect(await items()).toEqual([1, 2, 3, 4]);
  const [, counted] = await pool.batch([insert(6), 'SELECT count(*)::int AS count FROM item']);
  expect(counted?.rows).toEqual([{ count: 5 }]);
  expect(await failureOf(pool.batch([insert(7), 'SELECT 1/0', insert(8)]))).toMatchObject({
    code: 'PG_BATCH_FAILED',
    index: 1,
    cause: { code: '22012' },
  });
  const failing = pool.transaction(async (transaction) => {
    await transaction.query(insert(9));
    throw mine;
  });
  expect(await failureOf(failing)).toBe(mine);
  expect(await failureOf(pool.transaction((transaction) => transaction.query('SELECT 1/0')))).toMatchObject({
    code: '22012',
  });
  const refused = pool.transaction((transaction) => transaction.query(insert(10)), { settings: { no_such: 1 } });
  expect(await failureOf(refused)).toMatchObject({ code: '42704' });
  expect(
    await failureOf(pool.transaction((transaction) => void transaction.query('SELECT pg_sleep(600)'))),
  ).toMatchObject({ code: 'PG_TRANSACTION_UNAWAITED' });
  const timed = pool.transaction((transaction) => transaction.query('SELECT pg_sleep(600)'), { timeoutMillis: 100 });
  expect(await failureOf(timed)).toMatchObject({ code: 'PG_TRANSACTION_TIMEOUT' });
  expect(await items()).toEqual([1, 2, 3, 4, 6]);
  expect(pool.stats()).toMatchObject({ connects: 1, retired: {} });
  await expectNothingLeft(pool);
}

describe('transactions', () => {
  it.each<[string, PgOptions]>([
    ['as they are by default', {}],
    ['without the statement cache and without pipelining', { pool: { statementCache: false, pipeline: 'off' } }],
    ['with a session that is reset in front of the next user', { pool: { reset: 'discard-all' } }],
    ['with a session that is cleaned', { pool: { reset: 'clean' } }],
    ['with a session that is reset by SQL', { pool: { reset: { sql: 'RESET ALL' } } }],
    ['with a query_timeout', { query_timeout: 60_000 }],
  ])('hold %s', async (_, options) => {
    const pool = openPool('ways', { ...options, pool: { ...options.pool, max: 1 } });
    await pool.open();
    await expectTransactions(pool);
  });
});

describe('a client whose short way is barred', () => {
  beforeEach(() => {
    vi.spyOn(FastPath, 'obstacle').mockReturnValue('Client.something');
    vi.spyOn(process, 'emitWarning').mockReturnValue(undefined);
  });
  afterEach(() => void vi.restoreAllMocks());

  it('holds its transactions as well', async () => {
    const pool = openPool('barred', { pool: { max: 1 } });
    await pool.open();
    await expectTransactions(pool);
  });

  it('sends one statement after the other', async () => {
    await using watched = await watchPool('one-by-one');
    const { pool, messages } = watched;
    await pool.transaction((transaction) => transaction.query('SELECT 1'));
    expect(roundTrips(messages.words())).toBe(3);
    await pool.batch([insert(1), insert(2)]);
    expect(roundTrips(messages.words())).toBe(4);
    await expectNothingLeft(pool);
  });

  it('knows that a batch has failed which never came to its COMMIT', async () => {
    const pool = openPool('never-committed', { pool: { max: 1 } });
    const mine = new Error('mine');
    const toPostgres = (): never => {
      throw mine;
    };
    for (const run of [
      () => pool.batch([insert(1), { text: 'SELECT $1::text', values: [{ toPostgres }] }]),
      () => pool.transaction(() => pool.batch([insert(1), { text: 'SELECT $1::text', values: [{ toPostgres }] }])),
    ]) {
      const error = await failureOf(run());
      expect(error).toMatchObject({ code: 'PG_BATCH_FAILED', index: 1 });
      expect(error.cause).toBe(mine);
    }
    const lethal = 'SELECT pg_terminate_backend(pg_backend_pid())';
    expect(await failureOf(pool.batch([insert(1), lethal, insert(2)]))).toMatchObject({ cause: { code: '57P01' } });
    expect(await items()).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('keeps a value that cannot be converted from failing the transaction', async () => {
    const pool = openPool('conversion', { pool: { max: 1 } });
    const toPostgres = (): never => {
      throw new Error('mine');
    };
    await pool.transaction(async (transaction) => {
      await failureOf(transaction.query('SELECT $1::text', [{ toPostgres }]));
      await transaction.query(insert(1));
      await failureOf(transaction.transaction((inner) => inner.query('SELECT $1::text', [{ toPostgres }])));
      await transaction.query(insert(2));
    });
    expect(await items()).toEqual([1, 2]);
    await expectNothingLeft(pool);
  });

  it('reports a COMMIT that is refused, and one that is lost', async () => {
    await adminQuery(server(), 'CREATE TABLE parent (id int PRIMARY KEY)');
    await adminQuery(server(), 'CREATE TABLE child (id int REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)');
    await using watched = await watchPool('commit');
    const { pool, proxy } = watched;
    const orphan = 'INSERT INTO child VALUES (1)';
    expect(await failureOf(pool.transaction((transaction) => transaction.query(orphan)))).toMatchObject({
      code: '23503',
    });
    expect(await failureOf(pool.batch([orphan]))).toMatchObject({ code: '23503' });
    const cut = pool.transaction(async (transaction) => {
      await transaction.query(insert(1));
      proxy.limitBytes(1);
    });
    expect(await failureOf(cut)).toMatchObject({ code: 'PG_COMMIT_UNKNOWN' });
    proxy.limitBytes(undefined);
    await expectNothingLeft(pool);
  });
});
