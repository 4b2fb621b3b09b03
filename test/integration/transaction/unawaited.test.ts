import { setImmediate as tick, setTimeout as delay } from 'node:timers/promises';
import Cursor from 'pg-cursor';
import QueryStream from 'pg-query-stream';
import { describe, expect, it } from 'vitest';
import type { PgPool, PgTransaction } from 'nestjs-pg';
import { deferred } from '../../../lib/util/deferred.js';
import { sessionsOf } from '../../support/postgres.js';
import { expectNothingLeft, failureOf, insert, items, openPool, server, warningsOf } from './fixture.js';

/** Nothing has landed, and the connection serves the next. */
async function expectUntouched(pool: PgPool, connects = 1): Promise<void> {
  expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  expect(await items()).toEqual([]);
  expect(pool.stats().connects).toBe(connects);
  expect(warningsOf(pool)).toEqual([]);
  await expectNothingLeft(pool);
}

describe('a function that returns before its statements have ended', () => {
  it('is an error that names them, and they never land anywhere', async () => {
    const pool = openPool('unawaited', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        void transaction.query(insert(2));
        void transaction.query('SELECT pg_sleep(600)');
        void pool.query({
          text: 'INSERT INTO item (id)\n      VALUES ($1) RETURNING id, name, id AS a, name AS b',
          values: [3],
        });
        void pool.query('SELECT 4');
      }),
    );
    expect(error.message).toBe(
      `Pool "${pool.name}": the transaction's function returned while 4 of its statements had not ended: ` +
        '"INSERT INTO item (id) VALUES ($1)", "SELECT pg_sleep(600)", ' +
        '"INSERT INTO item (id) VALUES ($1) RETURNING id, name, id ...", .... Rolled back; await every statement.',
    );
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_UNAWAITED' });
    await expectUntouched(pool);
  });

  it('does not wait for the running one: it is cancelled on the server', async () => {
    const pool = openPool('running', { pool: { max: 1 } });
    await failureOf(pool.transaction((transaction) => void transaction.query('SELECT pg_sleep(600)')));
    expect((await sessionsOf(server(), pool.name)).filter(({ state }) => state === 'active')).toEqual([]);
    await expectUntouched(pool);
  });

  it('tells those who ask by callback', async () => {
    const pool = openPool('callbacks', { pool: { max: 1 } });
    const told: unknown[] = [];
    await failureOf(
      pool.transaction((transaction) => {
        transaction.query('SELECT pg_sleep(600)', (error: unknown) => told.push(error));
        transaction.query(insert(1), (error: unknown) => told.push(error));
      }),
    );
    expect(told).toMatchObject([{ code: 'PG_TRANSACTION_ENDED' }, { code: '57014' }]);
    await expectUntouched(pool);
  });

  it('tells those who await too late', async () => {
    const pool = openPool('late', { pool: { max: 1 } });
    let running: Promise<unknown> | undefined;
    let waiting: Promise<unknown> | undefined;
    await failureOf(
      pool.transaction((transaction) => {
        running = transaction.query('SELECT pg_sleep(600)');
        waiting = transaction.query(insert(1));
      }),
    );
    await expect(running).rejects.toMatchObject({ code: '57014' });
    await expect(waiting).rejects.toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
    await expectUntouched(pool);
  });

  it('is the same where they have not been sent, since the first one is only being begun', async () => {
    const pool = openPool('first', { pool: { max: 1 } });
    expect(await failureOf(pool.transaction((transaction) => void transaction.query(insert(1))))).toMatchObject({
      code: 'PG_TRANSACTION_UNAWAITED',
    });
    const mine = new Error('mine');
    const rejected = pool.transaction((transaction) => {
      void transaction.query(insert(1));
      throw mine;
    });
    expect(await failureOf(rejected)).toBe(mine);
    await expectUntouched(pool);
  });

  it('is the same for a batch', async () => {
    const pool = openPool('batch', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        void pool.batch([{ text: 'SELECT pg_sleep(600)' }, insert(2)]);
      }),
    );
    expect(error).toMatchObject({ code: 'PG_TRANSACTION_UNAWAITED' });
    await expectUntouched(pool);
  });

  it('is the same for a stream, a cursor and a query stream', async () => {
    const starts: ((transaction: PgTransaction, pool: PgPool) => unknown)[] = [
      (transaction) => transaction.query(new Cursor('SELECT * FROM generate_series(1, 1000)')).read(1),
      (transaction) =>
        new Promise((resolve) => {
          const stream = transaction.query(new QueryStream('SELECT * FROM generate_series(1, 1000)'));
          stream
            .on('error', () => undefined)
            .once('data', () => {
              stream.pause();
              resolve(undefined);
            });
        }),
    ];
    for (const start of starts) {
      const pool = openPool('streams', { pool: { max: 1 } });
      const error = await failureOf(
        pool.transaction(async (transaction) => {
          await transaction.query(insert(1));
          await start(transaction, pool);
        }),
      );
      expect(error).toMatchObject({ code: 'PG_TRANSACTION_UNAWAITED' });
      expect(error.message).toContain('"a stream"');
      // The server has nothing to cancel in a portal that is open: its connection ends with it.
      await expectUntouched(pool, 2);
    }
  });

  it('leaves a stream that nobody reads on, since other statements may run between its rows', async () => {
    const pool = openPool('abandoned-stream', { pool: { max: 1 } });
    let rows: AsyncIterableIterator<unknown> | undefined;
    await pool.transaction(async (transaction) => {
      rows = pool.stream('SELECT * FROM generate_series(1, 100000)');
      await rows.next();
      await transaction.query(insert(1));
    });
    expect(await items()).toEqual([1]);
    let failure: unknown;
    try {
      for (let index = 0; index < 100_000; index++) await rows?.next();
    } catch (error) {
      failure = error;
    }
    expect(failure).toMatchObject({ code: 'PG_TRANSACTION_ENDED' });
    await expectNothingLeft(pool);
  });

  it('is the same for an inner transaction, running or between statements', async () => {
    for (const statement of ['SELECT pg_sleep(600)', 'SELECT 1']) {
      const pool = openPool('inner', { pool: { max: 1 } });
      const seen: unknown[] = [];
      const over = deferred<void>();
      const error = await failureOf(
        pool.transaction(async (transaction) => {
          await transaction.query(insert(1));
          void transaction.transaction(async (inner) => {
            await inner.query(insert(2)).catch((reason: unknown) => seen.push(reason));
            await inner.query(statement).catch((reason: unknown) => seen.push(reason));
            await tick();
            await inner.query(insert(3)).catch((reason: unknown) => seen.push(reason));
            over.resolve();
          });
        }),
      );
      expect(error).toMatchObject({ code: 'PG_TRANSACTION_UNAWAITED' });
      expect(error.message).toContain('an inner transaction');
      await over.promise;
      expect(seen.slice(-2)).toMatchObject([{ code: 'PG_TRANSACTION_ENDED' }, { code: 'PG_TRANSACTION_ENDED' }]);
      await expectUntouched(pool);
    }
  });

  it('rejects an inner transaction that comes to its end later, and touches nothing any more', async () => {
    const pool = openPool('inner-later', { pool: { max: 1 } });
    for (const end of [
      (): string => 'done',
      (): string => {
        throw new Error('inner');
      },
    ]) {
      let goOn: (() => void) | undefined;
      let inner: Promise<unknown> | undefined;
      await failureOf(
        pool.transaction(async (transaction) => {
          inner = transaction.transaction(async (nested) => {
            await nested.query(insert(1));
            await new Promise<void>((resolve) => (goOn = resolve));
            return end();
          });
          while (!goOn) await tick();
        }),
      );
      // The connection is another's now.
      const other = pool.transaction(async (transaction) => {
        await transaction.query(insert(100));
        goOn?.();
        await transaction.query('SELECT pg_sleep(0.05)');
        await transaction.query('DELETE FROM item');
      });
      await expect(inner).rejects.toMatchObject(
        end.toString().includes('throw') ? { message: 'inner' } : { code: 'PG_TRANSACTION_ENDED' },
      );
      await other;
    }
    await expectUntouched(pool);
  });
});

describe('a function that throws while others still run', () => {
  it('rejects with its error; the others are cancelled and refused', async () => {
    const pool = openPool('promise-all', { pool: { max: 1 } });
    const error = await failureOf(
      pool.transaction((transaction) =>
        Promise.all([
          transaction.query(insert(1)),
          transaction.query('SELECT 1/0'),
          transaction.query('SELECT pg_sleep(600)'),
          transaction.query(insert(2)),
        ]),
      ),
    );
    expect(error).toMatchObject({ code: '22012' });
    await expectUntouched(pool);
  });

  it('is the same for services that were started side by side', async () => {
    const pool = openPool('side-by-side', { pool: { max: 1 } });
    const mine = new Error('mine');
    const stragglers: unknown[] = [];
    const straggle = async (): Promise<void> => {
      await pool.query('SELECT pg_sleep(600)').catch((reason: unknown) => stragglers.push(reason));
      await delay(30);
      await pool.query(insert(1)).catch((reason: unknown) => stragglers.push(reason));
    };
    let straggling: Promise<void> | undefined;
    const error = await failureOf(
      pool.transaction(async () => {
        straggling = straggle();
        await tick();
        throw mine;
      }),
    );
    expect(error).toBe(mine);
    await straggling;
    expect(stragglers).toMatchObject([{ code: '57014' }, { code: 'PG_TRANSACTION_ENDED' }]);
    await expectUntouched(pool);
  });

  it.each([1, 2, 3, 4, 5])('recycles its connection with an inner one under way, run %i', async () => {
    const pool = openPool('inner-and-outer', { pool: { max: 1 } });
    const mine = new Error('mine');
    const error = await failureOf(
      pool.transaction(async (transaction) => {
        await transaction.query(insert(1));
        const inner = transaction.transaction(async (nested) => {
          await nested.query(insert(2));
          await nested.query('SELECT pg_sleep(600)');
        });
        await Promise.all([
          inner,
          (async () => {
            await delay(10);
            throw mine;
          })(),
        ]);
      }),
    );
    expect(error).toBe(mine);
    await expectUntouched(pool);
  });
});
