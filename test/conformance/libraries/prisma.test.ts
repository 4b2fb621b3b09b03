import { PrismaPg } from '@prisma/adapter-pg';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { adminQuery, sessionsOf, terminateBackends } from '../../support/postgres.js';
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

type Adapter = Awaited<ReturnType<PrismaPg['connect']>>;
type Query = Parameters<Adapter['queryRaw']>[0];

/** A statement as Prisma's engine hands it to an adapter. */
function query(sql: string, ...args: number[]): Query {
  return { sql, args, argTypes: args.map(() => ({ scalarType: 'int', arity: 'scalar' })) };
}

/** As the engine ends a transaction: `usePhantomQuery` is false, so it sends the statement itself. */
async function end(
  transaction: Awaited<ReturnType<Adapter['startTransaction']>>,
  by: 'commit' | 'rollback',
): Promise<void> {
  await transaction.executeRaw(query(by.toUpperCase()));
  await transaction[by]();
}

const insert = (id: number): Query => query("INSERT INTO item VALUES ($1, 'in transaction')", id);
const divisionByZero = query('SELECT 1/0');

async function idsOf(adapter: Adapter): Promise<unknown[]> {
  const { rows } = await adapter.queryRaw(query('SELECT id FROM item WHERE id > 0 ORDER BY id'));
  return rows.map(([id]) => id);
}

beforeAll(async () => {
  await adminQuery(server(), 'CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL)');
});

afterEach(() => {
  vi.unstubAllEnvs();
});

describe("Prisma's adapter", () => {
  it('takes the pool for a pool, not for the settings of one', async () => {
    const pool = openPool('prisma');
    const adapter = await new PrismaPg(pool).connect();
    expect(adapter.underlyingDriver()).toBe(pool);
    const { columnNames, rows } = await adapter.queryRaw(query("SELECT current_setting('application_name') AS name"));
    expect({ columnNames, rows }).toEqual({ columnNames: ['name'], rows: [[pool.name]] });
    // A pool that the adapter had made of it would have a session of its own.
    expect(await sessionsOf(server())).toEqual([expect.objectContaining({ application_name: pool.name })]);
    await adapter.dispose();
    expect(pool.ending).toBe(false);
    await expectNothingLeft(pool);
  });

  it('ends the pool if it is asked to', async () => {
    const pool = openPool('prisma');
    const adapter = await new PrismaPg(pool, { disposeExternalPool: true }).connect();
    await adapter.executeScript('SELECT 1; SELECT 2;');
    await expectAllIdle(pool);
    await adapter.dispose();
    expect(pool.ended).toBe(true);
    await expectNoSessions(pool);
  });

  it('takes its listener away from the pool', async () => {
    const pool = openPool('prisma');
    const before = pool.listenerCount('error');
    const lost: Error[] = [];
    const adapter = await new PrismaPg(pool, { onPoolError: (error) => lost.push(error) }).connect();
    await adapter.queryRaw(query('SELECT 1'));
    const told = new Promise((resolve) => pool.once('error', resolve));
    await terminateBackends(server(), pool.name);
    await told;
    expect(lost).toHaveLength(1);
    await adapter.dispose();
    expect(pool.listenerCount('error')).toBe(before);
    await expectNothingLeft(pool);
  });

  it('reads every type by its own parsers, which are of its statements alone', async () => {
    const pool = openPool('prisma', { pool: { max: 1 } });
    const adapter = await new PrismaPg(pool).connect();
    const { rows } = await adapter.queryRaw(
      query("SELECT 1::int8 AS big, DATE '2000-01-01' AS day, $1::int AS int", 7),
    );
    expect(rows).toEqual([['1', '2000-01-01', 7]]);
    expect((await pool.query<{ day: Date }>("SELECT DATE '2000-01-01' AS day")).rows[0]?.day).toBeInstanceOf(Date);
    await expectNothingLeft(pool);
  });

  it('prepares statements under the names that it is given', async () => {
    const pool = openPool('prisma', { pool: { max: 2 } });
    const adapter = await new PrismaPg(pool, { statementNameGenerator: ({ sql }) => `named:${sql}` }).connect();
    const results = await Promise.all(
      Array.from({ length: 10 }, (_, index) => adapter.queryRaw(query('SELECT $1::int', index))),
    );
    expect(results.map(({ rows }) => rows[0])).toEqual(Array.from({ length: 10 }, (_, index) => [index]));
    await expectNothingLeft(pool);
  });

  it("tells the server's errors by kind and code, and they cost no connection", async () => {
    const pool = openPool('prisma');
    const adapter = await new PrismaPg(pool).connect();
    await adapter.executeRaw(insert(-1));
    await expect(adapter.executeRaw(insert(-1))).rejects.toMatchObject({
      name: 'DriverAdapterError',
      cause: { kind: 'UniqueConstraintViolation', originalCode: '23505', constraint: { index: 'item_pkey' } },
    });
    const error = { cause: { kind: 'postgres', originalCode: '22012' } };
    await expectNoReconnects(pool, () => adapter.queryRaw(divisionByZero), error);
    await expectNothingLeft(pool);
  });

  it('commits and rolls back', async () => {
    const pool = openPool('prisma', { pool: { max: 1 } });
    const adapter = await new PrismaPg(pool).connect();
    const committed = await adapter.startTransaction('SERIALIZABLE');
    await committed.executeRaw(insert(1));
    await end(committed, 'commit');
    const undone = await adapter.startTransaction();
    await undone.executeRaw(insert(2));
    await end(undone, 'rollback');
    const failed = await adapter.startTransaction();
    await failed.executeRaw(insert(3));
    await expect(failed.queryRaw(divisionByZero)).rejects.toMatchObject({ cause: { originalCode: '22012' } });
    await end(failed, 'rollback');
    expect(await idsOf(adapter)).toEqual([1]);
    expect(pool.stats()).toMatchObject({ connects: 1, resets: 0 });
    await expectNothingLeft(pool);
  });

  it('rolls back to savepoints', async () => {
    const pool = openPool('prisma', { pool: { max: 1 } });
    const adapter = await new PrismaPg(pool).connect();
    const transaction = await adapter.startTransaction();
    await transaction.executeRaw(insert(11));
    await transaction.createSavepoint?.('before');
    await transaction.executeRaw(insert(12));
    await expect(transaction.queryRaw(divisionByZero)).rejects.toThrow();
    await transaction.rollbackToSavepoint?.('before');
    await transaction.releaseSavepoint?.('before');
    await transaction.executeRaw(insert(13));
    await end(transaction, 'commit');
    expect(await idsOf(adapter)).toEqual([1, 11, 13]);
    await expectNothingLeft(pool);
  });

  it('runs 40 transactions and statements at once on 3 connections', async () => {
    const pool = openPool('prisma', { pool: { max: 3 } });
    const adapter = await new PrismaPg(pool).connect();
    const statement = query('SELECT $1::int AS n, pg_sleep(0.002)::text AS slept', 1);
    await expectWithinMax(pool, 40, async (index) => {
      if (index % 2) return adapter.queryRaw(statement);
      const transaction = await adapter.startTransaction('READ COMMITTED');
      await transaction.queryRaw(statement);
      return end(transaction, index % 4 ? 'commit' : 'rollback');
    });
    await expectNothingLeft(pool);
  });

  it('gives its lease back when its BEGIN is refused', async () => {
    const pool = openPool('prisma', { pool: { max: 1 } });
    const adapter = await new PrismaPg(pool).connect();
    const refused = adapter.startTransaction('nonsense' as 'SERIALIZABLE');
    await expect(refused).rejects.toThrow();
    expect((await adapter.queryRaw(query('SELECT 1'))).rows).toEqual([[1]]);
    // It releases with the error, so this connection is closed: the one case in which a mere error costs one.
    expect(pool.stats()).toMatchObject({ connects: 2, retired: { asked: 1 } });
    await expectNothingLeft(pool);
  });

  it('gives its lease back when the connection is lost at BEGIN, within the transaction, or at COMMIT', async () => {
    const pool = openPool('prisma', { pool: { max: 1 } });
    const adapter = await new PrismaPg(pool).connect();
    killNextBorrowed(pool);
    await expect(adapter.startTransaction()).rejects.toThrow();
    const startAndKill = async (): ReturnType<Adapter['startTransaction']> => {
      const transaction = await adapter.startTransaction();
      const { rows } = await transaction.queryRaw(query('SELECT pg_backend_pid()'));
      killBackend({ processID: Number(rows[0]?.[0]) });
      return transaction;
    };
    const within = await startAndKill();
    await expect(within.queryRaw(query('SELECT pg_sleep(60)::text'))).rejects.toThrow();
    await within.rollback();
    const atCommit = await startAndKill();
    await expect(atCommit.executeRaw(query('COMMIT'))).rejects.toThrow();
    await atCommit.rollback();
    expect((await adapter.queryRaw(query('SELECT 1'))).rows).toEqual([[1]]);
    expect(pool.stats()).toMatchObject({ connects: 4, total: 1 });
    await expectNothingLeft(pool);
  });

  it('hears of a connection that is lost within a transaction', async () => {
    const pool = openPool('prisma', { pool: { max: 1 } });
    let told: (error: Error) => void = () => undefined;
    const lost = new Promise<Error>((resolve) => (told = resolve));
    const adapter = await new PrismaPg(pool, { onConnectionError: (error) => told(error) }).connect();
    const transaction = await adapter.startTransaction();
    await terminateBackends(server(), pool.name);
    expect(await lost).toBeInstanceOf(Error);
    await transaction.rollback();
    expect((await adapter.queryRaw(query('SELECT 1'))).rows).toEqual([[1]]);
    await expectNothingLeft(pool);
  });

  it('rolls back a transaction that its engine has given up without a statement', async () => {
    const pool = openPool('prisma', { pool: { max: 1 } });
    const adapter = await new PrismaPg(pool).connect();
    const transaction = await adapter.startTransaction();
    await transaction.executeRaw(insert(21));
    await transaction.rollback();
    expect(await idsOf(adapter)).not.toContain(21);
    expect(pool.stats()).toMatchObject({ connects: 1, resets: 1 });
    await expectNothingLeft(pool);
  });

  it('is told when it releases twice, and ends no lease of another by it', async () => {
    const pool = openPool('prisma', { pool: { max: 1 } });
    const adapter = await new PrismaPg(pool).connect();
    const transaction = await adapter.startTransaction();
    await end(transaction, 'commit');
    const next = await adapter.startTransaction();
    await expect(transaction.rollback()).rejects.toMatchObject({ code: 'PG_LEASE_RELEASED' });
    expect(pool.stats().leased).toBe(1);
    await next.executeRaw(query('SELECT 1'));
    await end(next, 'commit');
    await expectNothingLeft(pool);
  });

  // `prisma migrate` makes the pool of its shadow database of `{ ...pool.options, database }`. The password is not
  // enumerable, here as in pg.Pool, so it stays behind, and pg looks for one in the environment.
  it('makes the pool of its shadow database of the options, and the password of the environment', async () => {
    vi.stubEnv('PGPASSWORD', server().password);
    const pool = openPool('prisma');
    const adapter = await new PrismaPg(pool).connectToShadowDb();
    const { rows } = await adapter.queryRaw(
      query("SELECT current_database()::text, current_user::text, current_setting('application_name')"),
    );
    expect(rows).toEqual([[expect.stringMatching(/^prisma_migrate_shadow_db_/), server().user, pool.name]]);
    await adapter.underlyingDriver().end();
    await expectNothingLeft(pool);
  });
});
